{{/* The pod of each kind of process. Called with (dict "root" $ "kind" kind). */}}
{{- define "parley.pod" -}}
{{- $root := .root }}
{{- $v := $root.Values }}
{{- $kind := .kind }}
{{- $own := index $v $kind }}
{{- $isEdge := has $kind (list "embedded" "gateway") }}
{{- $stores := ternary (list) (ternary (list "etcd" "cassandra") (list "etcd") (eq $kind "storage")) (eq $kind "embedded") }}
{{- $leaveSeconds := ternary $v.gateway.leaveSeconds 0 (eq $kind "gateway") | int }}
metadata:
  labels:
    {{- include "parley.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ $kind }}
  annotations:
    kubectl.kubernetes.io/default-container: parley
    {{- if $v.jwt.secret }}
    checksum/jwt: {{ $v.jwt.secret | sha256sum }}
    {{- end }}
    {{- with $v.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "parley.fullname" $root }}-{{ $kind }}
  automountServiceAccountToken: false
  # Kubernetes would put PARLEY_PORT and more of its own into the environment, after a Service's name; Parley refuses to start with settings that it does not know.
  enableServiceLinks: false
  # The drain, and what a process takes besides it at most when it stops (15 s).
  terminationGracePeriodSeconds: {{ add $leaveSeconds (div (add $v.drainMs 999) 1000) 20 }}
  {{- include "parley.placement" . | nindent 2 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 1000
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: { type: RuntimeDefault }
  containers:
    - name: parley
      image: {{ include "parley.image" $root }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [{{ ternary "start" $kind (eq $kind "embedded") }}]
      env:
        {{- include "parley.env" . | trim | nindent 8 }}
      ports:
        {{- if $isEdge }}
        - { name: clients, containerPort: 8080 }
        {{- else }}
        - { name: health, containerPort: 9091 }
        {{- end }}
        - { name: metrics, containerPort: 9092 }
        {{- if ne $kind "embedded" }}
        - { name: mesh, containerPort: 9090 }
        {{- end }}
      {{- $http := ternary "clients" "health" $isEdge }}
      livenessProbe:
        httpGet: { path: /healthz, port: {{ $http }} }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        {{- if or $isEdge $v.tls.enabled }}
        httpGet: { path: /readyz, port: {{ $http }} }
        {{- else }}
        grpc: { port: 9090 }
        {{- end }}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if gt $leaveSeconds 0 }}
      # What follows, the drain, is the process's own answer to SIGTERM.
      lifecycle:
        preStop: { sleep: { seconds: {{ $leaveSeconds }} } }
      {{- end }}
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      {{- include "parley.confined" . | nindent 6 }}
      volumeMounts:
        - { name: tmp, mountPath: /tmp }
        {{- if eq $kind "embedded" }}
        - { name: data, mountPath: /data }
        {{- end }}
        {{- if and (eq $kind "storage") $v.media.existingClaim }}
        - { name: media, mountPath: /media }
        {{- end }}
        {{- if and (ne $kind "embedded") $v.tls.enabled }}
        - { name: tls, mountPath: /etc/parley/tls, readOnly: true }
        {{- end }}
        {{- with include "parley.storeMounts" (dict "root" $root "stores" $stores) | trim }}{{ . | nindent 8 }}{{ end }}
        {{- if and $isEdge $v.jwt.publicKey }}
        - { name: jwt, mountPath: /etc/parley/jwt, readOnly: true }
        {{- end }}
  volumes:
    # Uploads pass through it.
    - { name: tmp, emptyDir: { sizeLimit: 4Gi } }
    {{- if and (eq $kind "storage") $v.media.existingClaim }}
    - { name: media, persistentVolumeClaim: { claimName: {{ $v.media.existingClaim }} } }
    {{- end }}
    {{- if and (ne $kind "embedded") $v.tls.enabled }}
    - { name: tls, secret: { secretName: {{ include "parley.tlsSecret" $root }}, defaultMode: 0440 } }
    {{- end }}
    {{- with include "parley.storeVolumes" (dict "root" $root "stores" $stores) | trim }}{{ . | nindent 4 }}{{ end }}
    {{- if and $isEdge $v.jwt.publicKey }}
    - { name: jwt, secret: { secretName: {{ include "parley.jwtSecret" $root }}, defaultMode: 0440 } }
    {{- end }}
{{- end }}

{{/* What no container needs. */}}
{{- define "parley.confined" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
{{- end }}

{{/* Where the pods go: spread over zones and nodes where that can be. */}}
{{- define "parley.placement" -}}
{{- $v := .root.Values }}
{{- with $v.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $v.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $v.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with $v.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "parley.selector" .root | nindent 14 }}
              app.kubernetes.io/component: {{ .kind }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "parley.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .kind }}
{{- end }}
