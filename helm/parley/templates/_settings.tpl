{{/* The environment of each kind of process: the names are those of the settings in docs/operations.md. Called with (dict "root" $ "kind" kind). */}}

{{/* Settings that are plain text, as JSON of name and value. */}}
{{- define "parley.plain" -}}
{{- $v := .root.Values }}
{{- $own := dict "PARLEY_DRAIN_MS" $v.drainMs "PARLEY_METRICS_HOST" "0.0.0.0" "PARLEY_METRICS_PORT" 9092 }}
{{- $edge := has .kind (list "embedded" "gateway") }}
{{- if $edge }}
{{- $own = merge $own (dict "PARLEY_HOST" "0.0.0.0" "PARLEY_PORT" 8080 "PARLEY_TRUST_FORWARDED_FOR" (ternary "yes" "no" (or $v.ingress.enabled $v.httpRoute.enabled))) }}
{{- if $v.gateway.publicUrl }}{{ $_ := set $own "PARLEY_PUBLIC_URL" $v.gateway.publicUrl }}{{ end }}
{{- if $v.jwt.jwksUrl }}{{ $_ := set $own "PARLEY_JWKS_URL" $v.jwt.jwksUrl }}{{ end }}
{{- if $v.jwt.publicKey }}{{ $_ := set $own "PARLEY_JWT_PUBLIC_KEY_FILE" "/etc/parley/jwt/jwt-public-key.pem" }}{{ end }}
{{- end }}
{{- if $v.region }}{{ $_ := set $own "PARLEY_REGION" $v.region }}{{ end }}
{{- if eq .kind "embedded" }}
{{- $own = merge $own (dict "PARLEY_DATA" "/data") }}
{{- else }}
{{- $own = merge $own (dict "PARLEY_ETCD" (include "parley.etcd" .root) "PARLEY_ETCD_PREFIX" $v.etcd.prefix "PARLEY_MESH_HOST" "0.0.0.0" "PARLEY_MESH_PORT" 9090 "PARLEY_ADVERTISE" "$(POD_IP):9090") (include "parley.storeTls" (dict "store" "etcd" "tls" $v.etcd.tls) | fromJson) }}
{{- if not $edge }}{{ $own = merge $own (dict "PARLEY_HEALTH_HOST" "0.0.0.0" "PARLEY_HEALTH_PORT" 9091) }}{{ end }}
{{- if $v.tls.enabled }}{{ $own = merge $own (dict "PARLEY_TLS_CERT_FILE" "/etc/parley/tls/tls.crt" "PARLEY_TLS_KEY_FILE" "/etc/parley/tls/tls.key" "PARLEY_TLS_CA_FILE" "/etc/parley/tls/ca.crt") }}{{ end }}
{{- end }}
{{- if eq .kind "storage" }}
{{- $own = merge $own (include "parley.cassandraPlain" .root | fromJson) }}
{{- if $v.media.existingClaim }}
{{- $_ := set $own "PARLEY_MEDIA_FOLDER" "/media" }}
{{- else }}
{{- $own = merge $own (dict "PARLEY_S3_BUCKET" $v.media.s3.bucket "PARLEY_S3_REGION" $v.media.s3.region) }}
{{- if $v.media.s3.endpoint }}{{ $_ := set $own "PARLEY_S3_ENDPOINT" $v.media.s3.endpoint }}{{ end }}
{{- end }}
{{- end }}
{{- range $name, $value := merge (dict) (index $v .kind).settings $v.settings }}
{{- if hasKey $own $name }}{{ fail (printf "%s is set by the chart: see values.yaml for the value that it comes from" $name) }}{{ end }}
{{- $_ := set $own $name $value }}
{{- end }}
{{- $own | toJson }}
{{- end }}

{{/* Of `parley storage` and `parley migrate`. */}}
{{- define "parley.cassandraPlain" -}}
{{- $c := .Values.cassandra }}
{{- $plain := dict "PARLEY_CASSANDRA" (include "parley.cassandra" .) "PARLEY_CASSANDRA_DATACENTER" $c.datacenter "PARLEY_CASSANDRA_KEYSPACE" $c.keyspace "PARLEY_CASSANDRA_REPLICATION" (ternary 1 $c.replication .Values.development.enabled) }}
{{- if $c.tls.name }}{{ $_ := set $plain "PARLEY_CASSANDRA_TLS_NAME" $c.tls.name }}{{ end }}
{{- merge $plain (include "parley.storeTls" (dict "store" "cassandra" "tls" $c.tls) | fromJson) | toJson }}
{{- end }}

{{/* Where the files are that a store is reached over TLS with. Called with (dict "store" name "tls" its values). */}}
{{- define "parley.storeTls" -}}
{{- $files := dict }}
{{- $names := dict }}
{{- if .tls.existingSecret }}{{ $names = dict "CA" "ca.crt" }}{{ end }}
{{- if .tls.clientCertificate }}{{ $names = merge $names (dict "CERT" "tls.crt" "KEY" "tls.key") }}{{ end }}
{{- range $setting, $file := $names }}{{ $_ := set $files (printf "PARLEY_%s_%s_FILE" (upper $.store) $setting) (printf "/etc/parley/%s/%s" $.store $file) }}{{ end }}
{{- $files | toJson }}
{{- end }}

{{/* The mounts of those files, and their volumes, by the names of stores. Called with (dict "root" $ "stores" names). */}}
{{- define "parley.storeMounts" -}}
{{- range $store := .stores }}
{{- if (index $.root.Values $store).tls.existingSecret }}
- { name: {{ $store }}, mountPath: /etc/parley/{{ $store }}, readOnly: true }
{{- end }}
{{- end }}
{{- end }}

{{- define "parley.storeVolumes" -}}
{{- range $store := .stores }}
{{- with (index $.root.Values $store).tls.existingSecret }}
- { name: {{ $store }}, secret: { secretName: {{ . }}, defaultMode: 0440 } }
{{- end }}
{{- end }}
{{- end }}

{{- define "parley.cassandraSecrets" -}}
{{- with .Values.cassandra.existingSecret }}
- name: PARLEY_CASSANDRA_USERNAME
  valueFrom: { secretKeyRef: { name: {{ . }}, key: username } }
- name: PARLEY_CASSANDRA_PASSWORD
  valueFrom: { secretKeyRef: { name: {{ . }}, key: password } }
{{- end }}
{{- end }}

{{- define "parley.etcdSecrets" -}}
{{- with .Values.etcd.existingSecret }}
- name: PARLEY_ETCD_USERNAME
  valueFrom: { secretKeyRef: { name: {{ . }}, key: username } }
- name: PARLEY_ETCD_PASSWORD
  valueFrom: { secretKeyRef: { name: {{ . }}, key: password } }
{{- end }}
{{- end }}

{{/* A number is written without an exponent. */}}
{{- define "parley.text" -}}{{ if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}{{- end }}

{{- define "parley.env" -}}
{{- $v := .root.Values }}
{{- if ne .kind "embedded" }}
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- include "parley.etcdSecrets" .root }}
{{- end }}
{{- if has .kind (list "embedded" "gateway") }}
- name: PARLEY_GATEWAY_ID
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- if not (or $v.jwt.jwksUrl $v.jwt.publicKey) }}
- name: PARLEY_JWT_SECRET
  valueFrom: { secretKeyRef: { name: {{ include "parley.jwtSecret" .root }}, key: jwt-secret } }
{{- end }}
{{- end }}
{{- if eq .kind "storage" }}
{{- include "parley.cassandraSecrets" .root }}
{{- with $v.media.s3.existingSecret }}
- name: PARLEY_S3_ACCESS_KEY_ID
  valueFrom: { secretKeyRef: { name: {{ . }}, key: access-key-id } }
- name: PARLEY_S3_SECRET_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ . }}, key: secret-access-key } }
{{- end }}
{{- end }}
{{- range $name, $value := include "parley.plain" . | fromJson }}
- name: {{ $name }}
  value: {{ include "parley.text" $value | quote }}
{{- end }}
{{- end }}
