{{- define "promkeep.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "promkeep.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "promkeep.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "promkeep.selectorLabels" -}}
app.kubernetes.io/name: {{ include "promkeep.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end }}

{{- define "promkeep.databaseSelectorLabels" -}}
app.kubernetes.io/name: {{ include "promkeep.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: database
{{- end }}

{{- /* Labels of everything but selectors. */}}
{{- define "promkeep.commonLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "promkeep.name" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "promkeep.labels" -}}
{{ include "promkeep.selectorLabels" . }}
{{ include "promkeep.commonLabels" . }}
{{- end }}

{{- define "promkeep.databaseLabels" -}}
{{ include "promkeep.databaseSelectorLabels" . }}
{{ include "promkeep.commonLabels" . }}
{{- end }}

{{- /* The annotations of an object: (list $ annotations). */}}
{{- define "promkeep.annotations" -}}
{{- with merge (dict) (index . 1) (index . 0).Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "promkeep.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "promkeep.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- /* (list image appVersion) */}}
{{- define "promkeep.image" -}}
{{- $image := index . 0 }}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default (index . 1) $image.tag }}{{ end }}
{{- end }}

{{- define "promkeep.databaseName" -}}
{{- printf "%s-timescaledb" (include "promkeep.fullname" .) }}
{{- end }}

{{- /* The Secret with the database URI; the chart says what to do when there is none. */}}
{{- define "promkeep.uriSecretName" -}}
{{- if .Values.timescaledb.enabled }}
{{- if or .Values.database.uri .Values.database.existingSecret }}
{{- fail "timescaledb.enabled brings a database of its own: set neither database.uri nor database.existingSecret" }}
{{- end }}
{{- include "promkeep.databaseName" . }}
{{- else if .Values.database.existingSecret }}
{{- .Values.database.existingSecret }}
{{- else if .Values.database.uri }}
{{- printf "%s-database" (include "promkeep.fullname" .) }}
{{- else }}
{{- fail "promkeep needs a database: set database.existingSecret or database.uri, or timescaledb.enabled to try it out" }}
{{- end }}
{{- end }}

{{- define "promkeep.uriSecretKey" -}}
{{- if .Values.timescaledb.enabled }}uri{{ else if .Values.database.existingSecret }}{{ .Values.database.existingSecretKey }}{{ else }}uri{{ end }}
{{- end }}

{{- define "promkeep.webConfigSecretName" -}}
{{- if .Values.webConfigExistingSecret }}
{{- .Values.webConfigExistingSecret }}
{{- else if .Values.webConfig }}
{{- printf "%s-web" (include "promkeep.fullname" .) }}
{{- end }}
{{- end }}

{{- /* One flag: (list name value). Whole numbers of values files arrive as floats. */}}
{{- define "promkeep.flag" -}}
{{- $name := index . 0 }}
{{- $value := index . 1 }}
{{- if kindIs "slice" $value }}
{{- range $value }}
{{- include "promkeep.flag" (list $name .) }}
{{- end }}
{{- else if kindIs "bool" $value }}
- {{ printf "--%s%s" (ternary "" "no-" $value) $name | quote }}
{{- else if kindIs "float64" $value }}
- {{ printf "--%s=%s" $name (ternary (printf "%d" (int64 $value)) (toString $value) (eq $value (floor $value))) | quote }}
{{- else if not (kindIs "invalid" $value) }}
- {{ printf "--%s=%s" $name (toString $value) | quote }}
{{- end }}
{{- end }}

{{- /* All arguments of the container. */}}
{{- define "promkeep.args" -}}
{{- $v := .Values }}
{{- $flags := dict
  "log.level" $v.logLevel
  "log.format" $v.logFormat
  "db.timescaledb" $v.database.timescaledb
  "db.max-connections" $v.database.maxConnections
  "storage.retention.time" $v.retention
  "storage.retention.size" $v.retentionSize
  "storage.flush-interval" $v.storage.flushInterval
  "storage.max-future" $v.storage.maxFuture
  "storage.head.cache-window" $v.storage.head.cacheWindow
  "storage.head.cache-size" $v.storage.head.cacheSize
  "storage.head.max-size" $v.storage.head.maxSize
  "storage.log.queue-size" $v.storage.log.queueSize
  "write.max-request-size" $v.write.maxRequestSize
  "write.max-decoded-size" $v.write.maxDecodedSize
  "write.max-in-flight-size" $v.write.maxInFlightSize
  "write.max-labels" $v.write.maxLabels
  "write.max-label-name-length" $v.write.maxLabelNameLength
  "write.max-label-value-length" $v.write.maxLabelValueLength
  "tenancy.header" $v.tenancy.header
  "tenancy.max-tenants" $v.tenancy.maxTenants
  "tenancy.max-query-tenants" $v.tenancy.maxQueryTenants
  "limits.samples-per-second" $v.limits.samplesPerSecond
  "limits.samples-burst" $v.limits.samplesBurst
  "limits.active-series" $v.limits.activeSeries
  "query.timeout" $v.query.timeout
  "query.lookback-delta" $v.query.lookbackDelta
  "query.max-concurrency" $v.query.maxConcurrency
  "query.max-memory" $v.query.maxMemory
  "query.max-memory-total" $v.query.maxMemoryTotal
  "query.max-samples" $v.query.maxSamples
}}
{{- range list "db.uri" "db.uri-file" "data-dir" "postgres.bin-dir" "web.config.file" "web.listen-address" "write.relabel-config.file" "limits.file" }}
{{- if hasKey $v.extraArgs . }}
{{- fail (printf "extraArgs cannot have %s: the chart sets it, or it makes no sense in this container" .) }}
{{- end }}
{{- end }}
- serve
- --web.listen-address=:9201
{{- if include "promkeep.webConfigSecretName" . }}
- --web.config.file=/etc/promkeep/web/web-config.yml
{{- end }}
{{- if $v.write.relabelConfigs }}
- --write.relabel-config.file=/etc/promkeep/relabel/relabel.yml
{{- end }}
{{- if $v.limits.overrides }}
- --limits.file=/etc/promkeep/limits/limits.yml
{{- end }}
{{- if and $v.tenancy.enabled (not (hasKey $v.extraArgs "tenancy.enabled")) }}
- --tenancy.enabled
{{- end }}
{{- if and $v.tenancy.fromBasicAuth (not (hasKey $v.extraArgs "tenancy.from-basic-auth")) }}
- --tenancy.from-basic-auth
{{- end }}
{{- range $name, $value := $flags }}
{{- if not (or (hasKey $v.extraArgs $name) (kindIs "invalid" $value) (eq (toString $value) "")) }}
{{- include "promkeep.flag" (list $name $value) }}
{{- end }}
{{- end }}
{{- range $name, $value := $v.extraArgs }}
{{- include "promkeep.flag" (list $name $value) }}
{{- end }}
{{- end }}

{{- define "promkeep.probe" -}}
{{- $root := index . 0 }}
httpGet:
  path: {{ index . 1 }}
  port: http
  scheme: {{ $root.Values.probes.scheme }}
  {{- with $root.Values.probes.httpHeaders }}
  httpHeaders:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{ toYaml (index . 2) }}
{{- end }}
