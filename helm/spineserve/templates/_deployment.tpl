{{/* One deployment. Arguments: dict root, track (stable, canary), model (the track's). */}}
{{- define "spineserve.deployment" -}}
{{- $root := .root }}
{{- $v := .root.Values }}
{{- $name := ternary (include "spineserve.fullname" $root) (printf "%s-canary" (include "spineserve.fullname" $root)) (eq .track "stable") }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels:
    {{- include "spineserve.labels" $root | nindent 4 }}
    spineserve.io/track: {{ .track }}
spec:
  {{- if eq .track "canary" }}
  replicas: {{ $v.canary.replicas }}
  {{- else if eq $v.autoscaling.mode "off" }}
  replicas: {{ $v.replicaCount }}
  {{- end }}
  revisionHistoryLimit: {{ $v.update.revisionHistoryLimit }}
  progressDeadlineSeconds: {{ add $v.probes.startupSeconds $v.engine.timeoutSeconds 300 }}
  strategy:
    type: RollingUpdate
    rollingUpdate:
      maxSurge: {{ $v.update.maxSurge }}
      maxUnavailable: {{ $v.update.maxUnavailable }}
  selector:
    matchLabels:
      {{- include "spineserve.selector" $root | nindent 6 }}
      spineserve.io/track: {{ .track }}
  template:
    metadata:
      labels:
        {{- include "spineserve.labels" $root | nindent 8 }}
        spineserve.io/track: {{ .track }}
      annotations:
        kubectl.kubernetes.io/default-container: triton
    spec:
      serviceAccountName: {{ include "spineserve.serviceAccountName" $root }}
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ include "spineserve.gracePeriod" $root }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        fsGroup: 1000
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile:
          type: RuntimeDefault
      {{- with $v.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with include "spineserve.placement" . | trim }}{{ . | nindent 6 }}{{- end }}
      {{- $init := include "spineserve.modelInit" . }}
      {{- if or ($init | trim) $v.gate.enabled }}
      initContainers:
        {{- with $init | trim }}{{ . | nindent 8 }}{{- end }}
        {{- if $v.gate.enabled }}
        {{- include "spineserve.tritonContainer" . | nindent 8 }}
        {{- end }}
      {{- end }}
      containers:
        {{- if $v.gate.enabled }}
        {{- include "spineserve.gateContainer" . | nindent 8 }}
        {{- else }}
        {{- include "spineserve.tritonContainer" . | nindent 8 }}
        {{- end }}
      volumes:
        - name: shm
          emptyDir:
            medium: Memory
            sizeLimit: {{ $v.resources.shmMiB }}Mi
        - name: tmp
          emptyDir:
            sizeLimit: {{ $v.resources.tmpMiB }}Mi
        {{- with include "spineserve.modelVolumes" . | trim }}{{ . | nindent 8 }}{{- end }}
        {{- if $v.gate.enabled }}
        {{- with include "spineserve.gateVolumes" $root | trim }}{{ . | nindent 8 }}{{- end }}
        {{- end }}
{{- end }}

{{/* Where the pods go. */}}
{{- define "spineserve.placement" -}}
{{- $s := .root.Values.scheduling }}
{{- with $s.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $s.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with $s.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $s.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if ne $s.antiAffinity "off" }}
affinity:
  podAntiAffinity:
    {{- if eq $s.antiAffinity "hard" }}
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "spineserve.selector" .root | nindent 12 }}
    {{- else }}
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "spineserve.selector" .root | nindent 14 }}
    {{- end }}
{{- end }}
{{- if ne $s.zoneSpread "off" }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: {{ $s.zoneSpread }}
    labelSelector:
      matchLabels:
        {{- include "spineserve.selector" .root | nindent 8 }}
        spineserve.io/track: {{ .track }}
{{- end }}
{{- if and (eq .root.Values.profile "gpu") (eq .root.Values.gpu.mode "dra") }}
resourceClaims:
  - name: gpu
    resourceClaimTemplateName: {{ include "spineserve.fullname" .root }}-gpu
{{- end }}
{{- end }}
