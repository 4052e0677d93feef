{{/* Puts .over over .base, in place: maps are united, all else is replaced, also by false, 0 and "". */}}
{{- define "monet.overlay" -}}
{{- $base := .base -}}
{{- range $key, $value := .over -}}
{{- if and (kindIs "map" $value) (kindIs "map" (get $base $key)) -}}
{{- include "monet.overlay" (dict "base" (get $base $key) "over" $value) -}}
{{- else -}}
{{- $_ := set $base $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Takes {root, name}; adds the model's values (`model`), its policies (`policies`, sorted names) and the seconds that a pod
     has to end (`grace`); fails on values that cannot work. */}}
{{- define "monet.model" -}}
{{- $model := deepCopy .root.Values.modelDefaults -}}
{{- include "monet.overlay" (dict "base" $model "over" (index .root.Values.models .name)) -}}
{{- $_ := set . "model" $model -}}
{{- $policies := $model.policies | default (keys .root.Values.policies) -}}
{{- $_ := set . "policies" ($policies | uniq | sortAlpha) -}}
{{- $drain := 30 -}}
{{- if hasKey $model.settings "drain_timeout" -}}{{- $drain = $model.settings.drain_timeout -}}{{- end -}}
{{- $_ := set . "grace" (add (int64 $model.drain.preStopSeconds) (int64 $drain) (int64 $model.drain.marginSeconds)) -}}
{{- include "monet.checkModel" . -}}
{{- end -}}

{{- define "monet.hasTenants" -}}
{{- if .model.tenants.list -}}true{{- end -}}
{{- end -}}

{{- define "monet.modelPath" -}}
{{- if eq .model.source.type "image" -}}{{ .model.source.path }}{{- else -}}/model{{- end -}}
{{- end -}}

{{- define "monet.replicas" -}}
{{- if eq .model.autoscaling.type "none" -}}{{ int64 .model.replicas }}{{- else -}}{{ int64 .model.autoscaling.minReplicas }}{{- end -}}
{{- end -}}

{{/* The server's configuration file. Settings of the chart come after those of the user: the schema lets nobody give one twice. */}}
{{- define "monet.serverConfig" -}}
{{- $config := deepCopy .model.settings -}}
{{- if not (hasKey $config "model_name") -}}{{- $_ := set $config "model_name" .name -}}{{- end -}}
{{- $_ := set $config "model" (include "monet.modelPath" .) -}}
{{- $_ := set $config "listen" "0.0.0.0:50051" -}}
{{- $_ := set $config "health_listen" "0.0.0.0:50052" -}}
{{- $_ := set $config "metrics_listen" "0.0.0.0:9090" -}}
{{- if .policies -}}
{{- $_ := set $config "policies" "/etc/monet/policies" -}}
{{- else if .model.policiesPath -}}
{{- $_ := set $config "policies" .model.policiesPath -}}
{{- end -}}
{{- if include "monet.hasTenants" . -}}
{{- $_ := set $config "tenants" "/etc/monet/tenants/tenants.yaml" -}}
{{- else -}}
{{- $_ := set $config "allow_anonymous" true -}}
{{- end -}}
{{- if .model.tenants.keysSecret.name -}}{{- $_ := set $config "keys" "/etc/monet/keys/keys.yaml" -}}{{- end -}}
{{- if .model.tls.secret -}}
{{- $_ := set $config "tls_cert" "/etc/monet/tls/tls.crt" -}}
{{- $_ := set $config "tls_key" "/etc/monet/tls/tls.key" -}}
{{- if .model.tls.clientCa -}}
{{- $_ := set $config "tls_client_ca" "/etc/monet/tls/ca.crt" -}}
{{- $_ := set $config "tls_client_auth" .model.tls.clientAuth -}}
{{- end -}}
{{- end -}}
{{- if .model.admin.enabled -}}
{{- $_ := set $config "admin_listen" "127.0.0.1:50053" -}}
{{- $_ := set $config "admin_token_file" "/etc/monet/admin/token" -}}
{{- end -}}
{{- range $key, $value := $config -}}
{{- if kindIs "float64" $value -}}{{- $_ := set $config $key (int64 $value) -}}{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "monet.tenantsFile" -}}
{{- with .model.tenants.gateway.subjects }}
gateway:
  subjects:
    {{- toYaml . | nindent 4 }}
{{- end }}
tenants:
  {{- toYaml .model.tenants.list | nindent 2 }}
{{- end -}}

{{- define "monet.sha256sums" -}}
{{- range $file, $digest := .model.source.sha256 }}
{{ trimPrefix "sha256:" $digest }}  {{ $file }}
{{- end }}
{{- end -}}
