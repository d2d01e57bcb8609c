{{/* Names and labels. */}}
{{- define "parley.fullname" -}}
{{- if contains "parley" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-parley" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "parley.selector" -}}
app.kubernetes.io/name: parley
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "parley.labels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The kind of process that clients reach. */}}
{{- define "parley.edge" -}}{{ if eq .Values.mode "cluster" }}gateway{{ else }}embedded{{ end }}{{- end }}

{{/* The kinds of processes, as JSON. */}}
{{- define "parley.kinds" -}}
{{- if eq .Values.mode "cluster" }}{{ list "gateway" "session" "delivery" "presence" "storage" | toJson }}{{ else }}{{ list "embedded" | toJson }}{{ end }}
{{- end }}

{{- define "parley.image" -}}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{- end }}

{{- define "parley.jwtSecret" -}}{{ .Values.jwt.existingSecret | default (printf "%s-jwt" (include "parley.fullname" .)) }}{{- end }}

{{- define "parley.tlsSecret" -}}{{ .Values.tls.existingSecret | default (printf "%s-mesh-tls" (include "parley.fullname" .)) }}{{- end }}

{{- define "parley.etcd" -}}
{{- if .Values.development.enabled }}{{ include "parley.fullname" . }}-etcd:2379{{ else }}{{ join "," .Values.etcd.endpoints }}{{ end }}
{{- end }}

{{- define "parley.cassandra" -}}
{{- if .Values.development.enabled }}{{ include "parley.fullname" . }}-cassandra:9042{{ else }}{{ join "," .Values.cassandra.contactPoints }}{{ end }}
{{- end }}

{{/* What a schema cannot say of the values. */}}
{{- define "parley.check" -}}
{{- $jwt := .Values.jwt }}
{{- if ne 1 (len (compact (list $jwt.secret $jwt.existingSecret $jwt.jwksUrl))) }}{{ fail "set one of jwt.secret, jwt.existingSecret and jwt.jwksUrl: it says how tokens are checked" }}{{ end }}
{{- if and $jwt.publicKey (not $jwt.existingSecret) }}{{ fail "jwt.publicKey is about jwt.existingSecret: set it too" }}{{ end }}
{{- if eq .Values.mode "cluster" }}
{{- range $store := list "etcd" "cassandra" }}
{{- $tls := (index $.Values $store).tls }}
{{- if and $tls.clientCertificate (not $tls.existingSecret) }}{{ fail (printf "%s.tls.clientCertificate is about %s.tls.existingSecret: set it too" $store $store) }}{{ end }}
{{- if and $tls.existingSecret $.Values.development.enabled }}{{ fail (printf "%s.tls: the stores of development.enabled speak no TLS" $store) }}{{ end }}
{{- end }}
{{- if not .Values.development.enabled }}
{{- if not .Values.etcd.endpoints }}{{ fail "mode cluster needs etcd.endpoints (or development.enabled)" }}{{ end }}
{{- if not .Values.cassandra.contactPoints }}{{ fail "mode cluster needs cassandra.contactPoints (or development.enabled)" }}{{ end }}
{{- end }}
{{- if ne 1 (len (compact (list .Values.media.existingClaim .Values.media.s3.bucket))) }}{{ fail "mode cluster needs one of media.existingClaim and media.s3.bucket: it says where images are kept" }}{{ end }}
{{- if and .Values.tls.enabled (ne 1 (len (compact (list .Values.tls.existingSecret .Values.tls.certManager.issuer)))) }}{{ fail "tls.enabled needs one of tls.existingSecret and tls.certManager.issuer" }}{{ end }}
{{- range $kind := include "parley.kinds" . | fromJsonArray }}
{{- $scale := (index $.Values $kind).autoscaling }}
{{- if gt ($scale.min | int64) ($scale.max | int64) }}{{ fail (printf "%s.autoscaling: min is above max" $kind) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
