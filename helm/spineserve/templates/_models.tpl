{{/* Where the model repository comes from and where Triton reads it. Arguments: dict root, model (the track's). */}}

{{/* "true" when the repository is laid out in a writable volume: downloaded, or about to receive engines. */}}
{{- define "spineserve.assembled" -}}
{{- if or (eq .model.source "objectStore") (and (eq .root.Values.profile "gpu") .root.Values.engine.build) }}true{{ end }}
{{- end }}

{{- define "spineserve.repositoryPath" -}}
{{- if include "spineserve.assembled" . }}/models
{{- else if eq .model.source "baked" }}{{ .model.baked.path }}
{{- else }}/source
{{- end }}
{{- end }}

{{- define "spineserve.sourcePath" -}}
{{- if eq .model.source "baked" }}{{ .model.baked.path }}{{ else }}/source{{ end }}
{{- end }}

{{- define "spineserve.modelVolumes" -}}
{{- if include "spineserve.assembled" . }}
- name: models
  emptyDir:
    sizeLimit: {{ .model.objectStore.sizeLimit }}
{{- end }}
{{- if eq .model.source "pvc" }}
- name: source
  persistentVolumeClaim:
    claimName: {{ .model.pvc.claimName }}
    readOnly: true
{{- else if eq .model.source "image" }}
- name: source
  image:
    reference: {{ .model.image.reference }}
    pullPolicy: {{ .model.image.pullPolicy }}
{{- end }}
{{- if and (eq .root.Values.profile "gpu") .root.Values.engine.build }}
- name: engines
{{- with .root.Values.engine.cache.claimName }}
  persistentVolumeClaim:
    claimName: {{ . }}
{{- else }}
  emptyDir:
    sizeLimit: {{ .root.Values.engine.cache.sizeLimit }}
{{- end }}
{{- end }}
{{- end }}

{{- define "spineserve.sourceMount" -}}
{{- if has .model.source (list "pvc" "image") }}
- name: source
  mountPath: /source
  readOnly: true
{{- if and (eq .model.source "pvc") .model.pvc.subPath }}
  subPath: {{ .model.pvc.subPath }}
{{- end }}
{{- end }}
{{- end }}

{{/* What Triton itself mounts of it. */}}
{{- define "spineserve.repositoryMount" -}}
{{- if include "spineserve.assembled" . }}
- name: models
  mountPath: /models
  readOnly: true
{{- else }}
{{- include "spineserve.sourceMount" . }}
{{- end }}
{{- end }}

{{/* Init containers: download or copy the repository, then build or fetch the engines. */}}
{{- define "spineserve.modelInit" -}}
{{- if eq .model.source "objectStore" }}
{{ include "spineserve.downloadContainer" . }}
{{- else if include "spineserve.assembled" . }}
{{ include "spineserve.copyContainer" . }}
{{- end }}
{{- if and (eq .root.Values.profile "gpu") .root.Values.engine.build }}
{{ include "spineserve.engineContainer" . }}
{{- end }}
{{- end }}

{{- define "spineserve.downloadContainer" -}}
{{- $store := .model.objectStore }}
- name: download
  image: {{ $store.image }}
  command: [rclone]
  args: [copy, --checksum, --retries=5, --stats-one-line, --stats=10s, {{ $store.path | quote }}, /models]
  env:
    - {name: RCLONE_CONFIG, value: /tmp/rclone.conf}
    - {name: RCLONE_S3_ENV_AUTH, value: "true"}
    - {name: HOME, value: /tmp}
    {{- range $name, $value := $store.env }}
    - {name: {{ $name }}, value: {{ $value | quote }}}
    {{- end }}
  {{- with $store.credentialsSecret }}
  envFrom:
    - secretRef:
        name: {{ . }}
  {{- end }}
  {{- include "spineserve.smallInit" . | nindent 2 }}
{{- end }}

{{- define "spineserve.copyContainer" -}}
- name: copy
  image: {{ include "spineserve.image" . }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [cp, -RL, {{ include "spineserve.sourcePath" . }}/., /models/]
  {{- include "spineserve.smallInit" . | nindent 2 }}
    {{- with include "spineserve.sourceMount" . | trim }}{{ . | nindent 4 }}{{- end }}
{{- end }}

{{/* Ends in the list of volume mounts, so that a caller can add to it. */}}
{{- define "spineserve.smallInit" -}}
resources:
  requests: {cpu: 100m, memory: 256Mi}
  limits: {memory: 1Gi}
securityContext:
  {{- include "spineserve.containerSecurity" .root | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
volumeMounts:
  - {name: models, mountPath: /models}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{/* spine-export keeps the key (compute capability, TensorRT version, ONNX hash, precision) in the cache's folder
     names: a hit is linked, a mismatch is built, a failure ends non-zero and its last words are the pod's message. */}}
{{- define "spineserve.engineContainer" -}}
- name: engine
  image: {{ default (include "spineserve.image" .) .root.Values.engine.image }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [timeout, {{ .root.Values.engine.timeoutSeconds | quote }}, spine-export, engine]
  args:
    - --repository=/models
    - --cache=/engines
    - --precision={{ .root.Values.engine.precision }}
  env:
    - {name: HOME, value: /tmp}
  resources:
    requests:
      cpu: {{ .root.Values.engine.resources.cpu | quote }}
      memory: {{ .root.Values.engine.resources.memory }}
    limits:
      memory: {{ .root.Values.engine.resources.memory }}
      {{- with include "spineserve.gpuLimits" .root | trim }}{{ . | nindent 6 }}{{- end }}
    {{- with include "spineserve.gpuClaims" .root | trim }}{{ . | nindent 4 }}{{- end }}
  securityContext:
    {{- include "spineserve.containerSecurity" .root | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: models, mountPath: /models}
    - {name: engines, mountPath: /engines}
    - {name: tmp, mountPath: /tmp}
{{- end }}
