{{- define "spineserve.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "spineserve.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "spineserve.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "spineserve.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "spineserve.selector" -}}
app.kubernetes.io/name: {{ include "spineserve.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "spineserve.labels" -}}
{{ include "spineserve.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "spineserve.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "spineserve.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The image of a track; argument: dict root, track. */}}
{{- define "spineserve.image" -}}
{{- $v := .root.Values }}
{{- $default := ternary .root.Chart.AppVersion (printf "%s-cpu" .root.Chart.AppVersion) (eq $v.profile "gpu") }}
{{- $tag := default $default $v.image.tag }}
{{- if and (eq .track "canary") $v.canary.imageTag }}
{{- printf "%s:%s" $v.image.repository $v.canary.imageTag }}
{{- else if $v.image.digest }}
{{- printf "%s@%s" $v.image.repository $v.image.digest }}
{{- else }}
{{- printf "%s:%s" $v.image.repository $tag }}
{{- end }}
{{- end }}

{{- define "spineserve.tlsSecretName" -}}
{{- default (printf "%s-tls" (include "spineserve.fullname" .)) .Values.tls.secretName }}
{{- end }}

{{/* Peers label by which pods of this namespace may call. */}}
{{- define "spineserve.clientLabel" -}}
{{ include "spineserve.fullname" . }}-client
{{- end }}
