{{/* spine-server's arguments, and after "--" those that it hands on to Triton. What both know is said once, to
     spine-server: ports, addresses, model control, exit timeout, log format. Arguments: dict root, model. */}}
{{- define "spineserve.tritonArgs" -}}
{{- $v := .root.Values }}
{{- $t := $v.triton }}
- --triton=/opt/tritonserver
- --repository={{ include "spineserve.repositoryPath" . }}
- --profile={{ $v.profile }}
- --host={{ ternary "127.0.0.1" "0.0.0.0" $v.gate.enabled }}
- --monitor-host=0.0.0.0
- --grpc-port={{ include "spineserve.tritonPort" .root }}
- --metrics-port=8002
- --status-port=8004
- --log-level={{ $t.logLevel }}
- --start-timeout={{ $v.probes.startupSeconds }}
- --stop-timeout={{ include "spineserve.exitTimeout" .root }}
- --canary-interval={{ $v.supervisor.canaryIntervalSeconds }}
- --hung-after={{ $v.drain.longestStudySeconds }}
- --reload-within={{ $v.supervisor.reloadSeconds }}
- --max-restarts={{ $v.supervisor.maxRestarts }}
- --
- --allow-sagemaker=false
- --allow-vertex-ai=false
- --grpc-keepalive-time={{ $t.grpcKeepaliveTimeMs }}
- --grpc-keepalive-permit-without-calls=1
{{- if not $v.gate.enabled }}
- --grpc-max-connection-age={{ mul $v.gate.maxConnectionAgeSeconds 1000 }}
- --grpc-max-connection-age-grace={{ mul $v.drain.longestStudySeconds 1000 }}
{{- end }}
- --metrics-interval-ms={{ $t.metricsIntervalMs }}
{{- if eq $v.profile "gpu" }}
- --pinned-memory-pool-byte-size={{ mul $t.pinnedMemoryPoolMiB 1048576 }}
- --cuda-memory-pool-byte-size=0:{{ mul $t.cudaMemoryPoolMiB 1048576 }}
- --allow-gpu-metrics=true
{{- end }}
{{- if $t.tracing.enabled }}
- --trace-config=mode=opentelemetry
- --trace-config=level=TIMESTAMPS
- --trace-config=rate={{ $t.tracing.rate }}
- --trace-config=opentelemetry,url={{ $t.tracing.endpoint }}
- --trace-config=opentelemetry,resource=service.name={{ include "spineserve.fullname" .root }}
{{- end }}
{{- range $t.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* One probe of the supervisor's status page, which knows what its canaries and the kernel said of every stage.
     Arguments: dict root, path, failures. */}}
{{- define "spineserve.tritonProbe" -}}
httpGet: {path: {{ .path }}, port: status}
periodSeconds: {{ .root.Values.probes.periodSeconds }}
timeoutSeconds: {{ .root.Values.probes.timeoutSeconds }}
failureThreshold: {{ .failures }}
{{- end }}

{{/* The container. As a sidecar of the gate it starts before it and is told to end only after it has ended. */}}
{{- define "spineserve.tritonContainer" -}}
{{- $v := .root.Values }}
- name: triton
  image: {{ include "spineserve.image" . }}
  imagePullPolicy: {{ $v.image.pullPolicy }}
  {{- if $v.gate.enabled }}
  restartPolicy: Always
  {{- end }}
  # It starts Triton, sends canaries, loads dead stages anew, restarts Triton, and gives up with a reason.
  command: [spine-server]
  args:
    {{- include "spineserve.tritonArgs" . | trim | nindent 4 }}
  env:
    - {name: HOME, value: /tmp}
    - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
    {{- if eq $v.profile "gpu" }}
    - {name: CUPY_CACHE_DIR, value: /tmp/cupy}
    {{- end }}
    {{- range $name, $value := $v.triton.env }}
    - {name: {{ $name }}, value: {{ $value | quote }}}
    {{- end }}
  ports:
    {{- if not $v.gate.enabled }}
    - {name: grpc, containerPort: 8001}
    {{- end }}
    - {name: metrics, containerPort: 8002}
    - {name: status, containerPort: 8004}
  startupProbe:
    {{- /* longer than spine-server's own patience, which ends with the reason */}}
    {{- $times := div (add $v.probes.startupSeconds 60) $v.probes.periodSeconds }}
    {{- include "spineserve.tritonProbe" (dict "root" .root "path" "/ready" "failures" $times) | trim | nindent 4 }}
  readinessProbe:
    {{- include "spineserve.tritonProbe" (dict "root" .root "path" "/ready" "failures" $v.probes.readinessFailures) | trim | nindent 4 }}
  livenessProbe:
    {{- include "spineserve.tritonProbe" (dict "root" .root "path" "/live" "failures" $v.probes.livenessFailures) | trim | nindent 4 }}
  {{- if not $v.gate.enabled }}
  lifecycle:
    {{- include "spineserve.preStop" (dict "root" .root "seconds" $v.drain.endpointSeconds) | nindent 4 }}
  {{- end }}
  resources:
    requests:
      cpu: {{ $v.resources.cpuRequest | quote }}
      memory: {{ include "spineserve.tritonMemory" .root }}
    limits:
      {{- with $v.resources.cpuLimit }}
      cpu: {{ . | quote }}
      {{- end }}
      memory: {{ include "spineserve.tritonMemory" .root }}
      {{- with include "spineserve.gpuLimits" .root | trim }}{{ . | nindent 6 }}{{- end }}
    {{- with include "spineserve.gpuClaims" .root | trim }}{{ . | nindent 4 }}{{- end }}
  securityContext:
    {{- include "spineserve.containerSecurity" .root | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - {name: shm, mountPath: /dev/shm}
    - {name: tmp, mountPath: /tmp}
    {{- with include "spineserve.repositoryMount" . | trim }}{{ . | nindent 4 }}{{- end }}
{{- end }}
