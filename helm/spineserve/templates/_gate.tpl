{{/* The gate: the only thing in the pod that listens to callers. */}}
{{- define "spineserve.gateArgs" -}}
{{- $v := .Values }}
- --listen=0.0.0.0:8001
- --triton=127.0.0.1:{{ include "spineserve.tritonPort" . }}
- --status-port=8003
{{- range $v.gate.models }}
- --model={{ . }}
{{- end }}
- --max-request-mib={{ $v.gate.maxRequestMiB }}
- --max-concurrent={{ $v.gate.maxConcurrentRequests }}
- --max-connection-age={{ $v.gate.maxConnectionAgeSeconds }}
- --drain={{ $v.drain.longestStudySeconds }}
{{- if ne $v.tls.mode "off" }}
- --tls-cert=/etc/spineserve/tls/tls.crt
- --tls-key=/etc/spineserve/tls/tls.key
{{- if $v.tls.clientAuth }}
- --tls-client-ca=/etc/spineserve/tls/ca.crt
{{- end }}
{{- end }}
{{- if $v.apiKeys.existingSecret }}
- --api-keys=/etc/spineserve/keys
{{- end }}
{{- end }}

{{- define "spineserve.gateContainer" -}}
{{- $v := .root.Values }}
- name: gate
  image: {{ include "spineserve.image" . }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  command: [python3, -m, spine_server.gate]
  args:
    {{- include "spineserve.gateArgs" .root | trim | nindent 4 }}
  env:
    - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
    - {name: HOME, value: /tmp}
    # Large messages go back to the system when they are done with; otherwise glibc keeps twice as much.
    - {name: MALLOC_MMAP_THRESHOLD_, value: "1048576"}
  ports:
    - {name: grpc, containerPort: 8001}
    - {name: gate-status, containerPort: 8003}
  readinessProbe:
    httpGet: {path: /ready, port: gate-status}
    periodSeconds: 5
    timeoutSeconds: 4
  livenessProbe:
    httpGet: {path: /live, port: gate-status}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  lifecycle:
    {{- include "spineserve.preStop" (dict "root" .root "seconds" $v.drain.endpointSeconds) | nindent 4 }}
  resources:
    requests:
      cpu: {{ $v.gate.resources.cpuRequest | quote }}
      memory: {{ $v.gate.resources.memory }}
    limits:
      memory: {{ $v.gate.resources.memory }}
  securityContext:
    {{- include "spineserve.containerSecurity" .root | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: gate-tmp, mountPath: /tmp}
    {{- if ne $v.tls.mode "off" }}
    - {name: tls, mountPath: /etc/spineserve/tls, readOnly: true}
    {{- end }}
    {{- if $v.apiKeys.existingSecret }}
    - {name: api-keys, mountPath: /etc/spineserve/keys, readOnly: true}
    {{- end }}
{{- end }}

{{/* Its /tmp is its own: in Triton's is the socket by which the supervisor controls models. */}}
{{- define "spineserve.gateVolumes" -}}
- name: gate-tmp
  emptyDir:
    sizeLimit: 64Mi
{{- if ne .Values.tls.mode "off" }}
- name: tls
  secret:
    secretName: {{ include "spineserve.tlsSecretName" . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.apiKeys.existingSecret }}
- name: api-keys
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
