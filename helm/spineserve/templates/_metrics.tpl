{{/* The expressions that scaling, rules and dashboard share. All of them are sums over the release's pods. */}}

{{- define "spineserve.podMatcher" -}}
namespace="{{ .Release.Namespace }}",pod=~"{{ include "spineserve.fullname" . }}-.*"
{{- end }}

{{/* The models that do the work: all but the entries. An ensemble hands on at once, so its own queue says nothing. */}}
{{- define "spineserve.leafMatcher" -}}
model!~"{{ concat (list "spine_mri" "segmentation") .Values.gate.models | uniq | join "|" }}"
{{- end }}

{{- define "spineserve.queueExpr" -}}
sum(nv_inference_pending_request_count{ {{- include "spineserve.podMatcher" . }},{{ include "spineserve.leafMatcher" . }}})
{{- end }}

{{/* Studies in flight. The gate counts them; without it, Little's law on the stages that do the work. */}}
{{- define "spineserve.inflightExpr" -}}
{{- if .Values.gate.enabled -}}
sum(spineserve_gate_inflight_requests{ {{- include "spineserve.podMatcher" . }}})
{{- else -}}
sum(rate(nv_inference_request_duration_us{ {{- include "spineserve.podMatcher" . }},model=~"preprocess|segment|identify|report"}[2m])) / 1e6
{{- end -}}
{{- end }}
