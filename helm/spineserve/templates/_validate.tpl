{{/* Pairs of values that make no sense together, where a JSON schema could not say so helpfully. */}}
{{- define "spineserve.validate" -}}
{{- $v := .Values }}
{{- $gpu := eq $v.profile "gpu" }}
{{- $version := .Capabilities.KubeVersion.Version }}
{{- if and (eq $v.gpu.mode "mig") $gpu (not $v.gpu.migProfile) }}
{{- fail "gpu.mode is mig: name the profile in gpu.migProfile, such as 1g.10gb." }}
{{- end }}
{{- if and $v.gpu.migProfile (ne $v.gpu.mode "mig") }}
{{- fail "gpu.migProfile is set, but gpu.mode is not mig: the profile would be ignored." }}
{{- end }}
{{- if and $gpu (eq $v.gpu.mode "dra") (semverCompare "<1.32.0-0" $version) }}
{{- fail (printf "gpu.mode is dra: Kubernetes 1.32 or newer is needed, this is %s. Use gpu.mode: resource." $version) }}
{{- end }}
{{- range list $v.model (mergeOverwrite (deepCopy $v.model) $v.canary.model) }}
{{- if and (eq .source "objectStore") (not .objectStore.path) }}
{{- fail "model.source is objectStore: say where in model.objectStore.path, such as :s3:bucket/spineserve/v1." }}
{{- end }}
{{- if and (eq .source "image") (not .image.reference) }}
{{- fail "model.source is image: name the OCI artefact in model.image.reference." }}
{{- end }}
{{- if and (eq .source "image") (semverCompare "<1.33.0-0" $version) }}
{{- fail (printf "model.source is image: Kubernetes 1.33 or newer is needed, this is %s. Use pvc, objectStore or baked." $version) }}
{{- end }}
{{- if and (eq .source "pvc") (not .pvc.claimName) }}
{{- fail "model.source is pvc: name the claim in model.pvc.claimName." }}
{{- end }}
{{- end }}
{{- if not $v.gate.enabled }}
{{- if ne $v.tls.mode "off" }}{{- fail "tls.mode needs gate.enabled: the gate ends TLS. Without it your mesh does." }}{{- end }}
{{- if $v.apiKeys.existingSecret }}{{- fail "apiKeys.existingSecret needs gate.enabled: Triton would take keys only on its command line, where every process list shows them." }}{{- end }}
{{- if or $v.grpcRoute.enabled $v.ingress.enabled }}{{- fail "grpcRoute and ingress need gate.enabled: without the gate the inner models would be open to the outside." }}{{- end }}
{{- end }}
{{- if and (or $v.grpcRoute.enabled $v.ingress.enabled) (eq $v.tls.mode "off") (not $v.apiKeys.existingSecret) }}
{{- fail "grpcRoute or ingress is on with neither tls.mode nor apiKeys.existingSecret: anyone who reaches the gateway could send studies. Set at least one." }}
{{- end }}
{{- if and (eq $v.tls.mode "existingSecret") (not $v.tls.secretName) }}
{{- fail "tls.mode is existingSecret: name it in tls.secretName." }}
{{- end }}
{{- if and (eq $v.tls.mode "certManager") (not $v.tls.certManager.issuerRef.name) }}
{{- fail "tls.mode is certManager: name the issuer in tls.certManager.issuerRef.name." }}
{{- end }}
{{- if and $v.grpcRoute.enabled (not $v.grpcRoute.parentRefs) }}
{{- fail "grpcRoute.enabled: name the gateway in grpcRoute.parentRefs." }}
{{- end }}
{{- if and $v.ingress.enabled (not $v.ingress.host) }}
{{- fail "ingress.enabled: name the host in ingress.host." }}
{{- end }}
{{- if gt (int $v.autoscaling.minReplicas) (int $v.autoscaling.maxReplicas) }}
{{- fail "autoscaling.minReplicas is above autoscaling.maxReplicas." }}
{{- end }}
{{- if and (ne $v.autoscaling.mode "off") (lt (int $v.autoscaling.scaleDownSeconds) (int $v.drain.longestStudySeconds)) }}
{{- fail "autoscaling.scaleDownSeconds is below drain.longestStudySeconds: pods would be taken away in the middle of a long study's wave." }}
{{- end }}
{{- if gt (int $v.autoscaling.keda.fallbackReplicas) (int $v.autoscaling.maxReplicas) }}
{{- fail "autoscaling.keda.fallbackReplicas is above autoscaling.maxReplicas." }}
{{- end }}
{{- if and (eq (int $v.update.maxSurge) 0) (eq (int $v.update.maxUnavailable) 0) }}
{{- fail "update.maxSurge and update.maxUnavailable are both 0: no update could ever begin." }}
{{- end }}
{{- if and $v.monitoring.rules.enabled (eq $v.monitoring.scrape "off") }}
{{- fail "monitoring.rules.enabled without monitoring.scrape: the absent-target alert would fire for ever." }}
{{- end }}
{{- range $v.triton.extraArgs }}
{{- $flag := regexFind "^--[a-z-]+" . }}
{{- if has $flag (list "--model-repository" "--backend-directory" "--model-control-mode" "--load-model" "--grpc-address" "--grpc-port" "--allow-http" "--http-address" "--http-port" "--grpc-restricted-protocol" "--exit-timeout-secs" "--metrics-port" "--metrics-address" "--model-config-name" "--allow-metrics" "--log-format") }}
{{- fail (printf "triton.extraArgs: %s is set by the chart; use the value that governs it." $flag) }}
{{- end }}
{{- end }}
{{- range $name := list "LD_PRELOAD" "PYTHONPATH" "LD_LIBRARY_PATH" }}
{{- if hasKey $v.triton.env $name }}{{- fail (printf "triton.env: %s would change which code runs; build it into the image." $name) }}{{- end }}
{{- end }}
{{- end }}
