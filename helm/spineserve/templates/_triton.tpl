{{/* Triton's arguments. Arguments: dict root, model. */}}
{{- define "spineserve.tritonArgs" -}}
{{- $t := .root.Values.triton }}
- --model-repository={{ include "spineserve.repositoryPath" . }}
- --model-control-mode={{ $t.modelControl }}
{{- if eq $t.modelControl "explicit" }}
- --load-model=*
{{- end }}
- --disable-auto-complete-config
- --model-load-thread-count={{ $t.modelLoadThreads }}
- --exit-timeout-secs={{ include "spineserve.exitTimeout" .root }}
- --allow-http=false
- --allow-sagemaker=false
- --allow-vertex-ai=false
- --grpc-address={{ ternary "127.0.0.1" "0.0.0.0" .root.Values.gate.enabled }}
- --grpc-port={{ include "spineserve.tritonPort" .root }}
- --grpc-keepalive-time={{ $t.grpcKeepaliveTimeMs }}
- --grpc-keepalive-permit-without-calls=1
- --grpc-http2-min-recv-ping-interval-without-data=5000
{{- if not .root.Values.gate.enabled }}
- --grpc-max-connection-age={{ mul .root.Values.gate.maxConnectionAgeSeconds 1000 }}
- --grpc-max-connection-age-grace={{ mul .root.Values.drain.longestStudySeconds 1000 }}
{{- end }}
- --grpc-restricted-protocol=model-repository,shared-memory,trace,logging:admin-key=$(POD_UID)
- --allow-metrics=true
- --metrics-address=0.0.0.0
- --metrics-port=8002
- --metrics-interval-ms={{ $t.metricsIntervalMs }}
- --log-format=ISO8601
{{- $levels := list "error" "warning" "info" "verbose" }}
- --log-error=true
- --log-warning={{ ne $t.logLevel "error" }}
- --log-info={{ has $t.logLevel (list "info" "verbose") }}
- --log-verbose={{ ternary 1 0 (eq $t.logLevel "verbose") }}
- --backend-config=python,stub-timeout-seconds={{ $t.stubTimeoutSeconds }}
{{- if eq .root.Values.profile "cpu" }}
- --model-config-name=cpu
- --backend-config=openvino,stub-timeout-seconds={{ $t.stubTimeoutSeconds }}
- --pinned-memory-pool-byte-size=0
- --allow-gpu-metrics=false
{{- else }}
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

{{/* One probe: `spine_server.probe` knocks at every stage. Arguments: dict root, kind, period, failures. */}}
{{- define "spineserve.tritonProbe" -}}
{{- $p := .root.Values.probes }}
exec:
  command:
    - python3
    - -m
    - spine_server.probe
    - {{ .kind }}
    - --grpc=127.0.0.1:{{ include "spineserve.tritonPort" .root }}
    - --timeout={{ $p.timeoutSeconds }}
    {{- if ne .kind "startup" }}
    - --hung-after={{ .root.Values.drain.longestStudySeconds }}
    {{- end }}
periodSeconds: {{ .period }}
timeoutSeconds: {{ add $p.timeoutSeconds 5 }}
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
  # A Triton that was killed leaves its shared memory behind, and /dev/shm outlives the container.
  command: [/bin/sh, -c, 'rm -rf /dev/shm/* && exec tritonserver "$@"', tritonserver]
  args:
    {{- include "spineserve.tritonArgs" . | trim | nindent 4 }}
  env:
    - name: POD_UID
      valueFrom: {fieldRef: {fieldPath: metadata.uid}}
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
  startupProbe:
    {{- $times := max 1 (div $v.probes.startupSeconds $v.probes.periodSeconds) }}
    {{- include "spineserve.tritonProbe" (dict "root" .root "kind" "startup" "period" $v.probes.periodSeconds "failures" $times) | trim | nindent 4 }}
  readinessProbe:
    {{- include "spineserve.tritonProbe" (dict "root" .root "kind" "ready" "period" $v.probes.periodSeconds "failures" $v.probes.readinessFailures) | trim | nindent 4 }}
  livenessProbe:
    {{- include "spineserve.tritonProbe" (dict "root" .root "kind" "live" "period" $v.probes.periodSeconds "failures" $v.probes.livenessFailures) | trim | nindent 4 }}
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
