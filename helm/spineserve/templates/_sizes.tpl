{{/* Seconds from SIGTERM's announcement to SIGKILL: leaving the endpoints, the longest study, Triton's own end. */}}
{{- define "spineserve.gracePeriod" -}}
{{- add .Values.drain.endpointSeconds .Values.drain.longestStudySeconds 30 }}
{{- end }}

{{/* Behind the gate nothing is in flight any more when Triton is told to end. */}}
{{- define "spineserve.exitTimeout" -}}
{{- ternary 10 (int .Values.drain.longestStudySeconds) .Values.gate.enabled }}
{{- end }}

{{- define "spineserve.tritonMemory" -}}
{{- add .Values.resources.workingMemoryMiB .Values.resources.shmMiB }}Mi
{{- end }}

{{/* Port of Triton's gRPC inside the pod. */}}
{{- define "spineserve.tritonPort" -}}
{{- ternary 8101 8001 .Values.gate.enabled }}
{{- end }}

{{- define "spineserve.gpuResource" -}}
{{- if eq .Values.gpu.mode "mig" }}
{{- printf "nvidia.com/mig-%s" .Values.gpu.migProfile }}
{{- else }}
{{- .Values.gpu.resourceName }}
{{- end }}
{{- end }}

{{/* What a container that computes on the GPU asks for, beside CPU and memory. */}}
{{- define "spineserve.gpuLimits" -}}
{{- if and (eq .Values.profile "gpu") (ne .Values.gpu.mode "dra") }}
{{ include "spineserve.gpuResource" . }}: {{ .Values.gpu.count }}
{{- end }}
{{- end }}

{{- define "spineserve.gpuClaims" -}}
{{- if and (eq .Values.profile "gpu") (eq .Values.gpu.mode "dra") }}
claims:
  - name: gpu
{{- end }}
{{- end }}

{{- define "spineserve.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* sleep is a field from Kubernetes 1.30 on; before that a program does it. Argument: dict root, seconds. */}}
{{- define "spineserve.preStop" -}}
preStop:
{{- if semverCompare ">=1.30.0-0" .root.Capabilities.KubeVersion.Version }}
  sleep:
    seconds: {{ .seconds }}
{{- else }}
  exec:
    command: ["sleep", {{ .seconds | quote }}]
{{- end }}
{{- end }}
