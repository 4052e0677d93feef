{{/* What a schema cannot say: each failure names what to change. */}}

{{/* Bytes of a Kubernetes quantity ("8Gi", "1.5G", 1e9) as a whole number. */}}
{{- define "monet.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := toString . -}}
{{- if kindIs "float64" . -}}{{- $text = toString (int64 .) -}}{{- end -}}
{{- $unit := regexFind "[A-Za-z]*$" $text -}}
{{- if not (and (hasKey $units $unit) (regexMatch "^[0-9]+([.][0-9]+)?[A-Za-z]*$" $text)) -}}
{{- fail (printf "resources.limits.memory is %s: expected a number with one of the units Ki, Mi, Gi, Ti, k, M, G, T, or none" $text) -}}
{{- end -}}
{{- mulf (float64 (trimSuffix $unit $text)) (float64 (get $units $unit)) | floor | int64 -}}
{{- end -}}

{{- define "monet.checkModel" -}}
{{- $at := printf "models.%s" .name -}}
{{- $model := .model -}}
{{- if not .root.Values.image.repository -}}{{- fail "image.repository is empty: name the image of monet-server that your cluster can pull" -}}{{- end -}}
{{- if gt (len (include "monet.modelName" .)) 52 -}}
{{- fail (printf "%s: the name %s has %d characters, limit 52; set fullnameOverride" $at (include "monet.modelName" .) (len (include "monet.modelName" .))) -}}
{{- end -}}
{{- include "monet.checkSource" . -}}
{{- include "monet.checkMemory" . -}}
{{- include "monet.checkAccess" . -}}
{{- include "monet.checkPolicies" . -}}
{{- $scaling := $model.autoscaling -}}
{{- if and (ne $scaling.type "none") (gt (int64 $scaling.minReplicas) (int64 $scaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling: minReplicas %d is above maxReplicas %d" $at (int64 $scaling.minReplicas) (int64 $scaling.maxReplicas)) -}}
{{- end -}}
{{- if and (eq $scaling.type "keda") (not $scaling.keda.serverAddress) -}}
{{- fail (printf "%s.autoscaling.keda.serverAddress is empty: the address of Prometheus is needed" $at) -}}
{{- end -}}
{{- if and $model.admin.enabled (not $model.admin.tokenSecret.name) -}}
{{- fail (printf "%s.admin.tokenSecret.name is empty: whoever reaches the administration port can end the server, so it needs a token" $at) -}}
{{- end -}}
{{- if and $model.test.enabled (not $model.test.maskDigest) -}}
{{- fail (printf "%s.test.maskDigest is empty: the digest to expect is needed (monetctl generate --json prints it as mask_digest)" $at) -}}
{{- end -}}
{{- end -}}

{{- define "monet.checkSource" -}}
{{- $at := printf "models.%s.source" .name -}}
{{- $source := .model.source -}}
{{- if and (eq $source.type "pvc") (not $source.pvc.claimName) -}}{{- fail (printf "%s.pvc.claimName is empty" $at) -}}{{- end -}}
{{- if eq $source.type "init" -}}
{{- if not $source.init.image -}}{{- fail (printf "%s.init.image is empty" $at) -}}{{- end -}}
{{- if not $source.sha256 -}}
{{- fail (printf "%s.sha256 is empty: what an init container brings is only served when its digests are known (sha256sum *)" $at) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $source.type "image") $source.sha256 -}}{{- fail (printf "%s.sha256 is for pvc and init; pin an image by image.digest" $at) -}}{{- end -}}
{{- end -}}

{{- define "monet.checkMemory" -}}
{{- $limit := dig "limits" "memory" "" .model.resources -}}
{{- $plan := int64 .model.plan.memory -}}
{{- if and $limit $plan -}}
{{- $bytes := int64 (include "monet.bytes" $limit) -}}
{{- if lt $bytes $plan -}}
{{- fail (printf "models.%s: resources.limits.memory is %s (%d bytes), under plan.memory, %d bytes; raise the limit, or lower kv_tokens and plan anew (monetctl plan)" .name (toString $limit) $bytes $plan) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "monet.checkAccess" -}}
{{- $at := printf "models.%s" .name -}}
{{- $model := .model -}}
{{- $tenants := $model.tenants -}}
{{- if and (not $tenants.list) (not $model.allowAnonymous) -}}
{{- fail (printf "%s has no tenants: give tenants.list, or say allowAnonymous: true to serve everybody who reaches the port" $at) -}}
{{- end -}}
{{- if and $tenants.list $model.allowAnonymous -}}
{{- fail (printf "%s.allowAnonymous means nothing beside tenants: give the tenant anonymous what callers without a key may do" $at) -}}
{{- end -}}
{{- if and (not $tenants.list) $tenants.keysSecret.name -}}{{- fail (printf "%s.tenants.keysSecret needs tenants.list" $at) -}}{{- end -}}
{{- $anonymous := false -}}
{{- range $tenants.list -}}{{- if eq .name "anonymous" -}}{{- $anonymous = true -}}{{- end -}}{{- end -}}
{{- if and $tenants.list (not (or $tenants.keysSecret.name $model.tls.clientCa $anonymous)) -}}
{{- fail (printf "%s.tenants: nobody could be served: give keysSecret, tls.clientCa or a tenant anonymous" $at) -}}
{{- end -}}
{{- if and $model.tls.clientCa (not $model.tls.secret) -}}{{- fail (printf "%s.tls.clientCa needs tls.secret" $at) -}}{{- end -}}
{{- end -}}

{{- define "monet.checkPolicies" -}}
{{- $name := .name -}}
{{- $policies := .policies -}}
{{- $known := .root.Values.policies -}}
{{- range $policies -}}
{{- if not (hasKey $known .) -}}{{- fail (printf "models.%s.policies names %s, which is not in policies" $name .) -}}{{- end -}}
{{- end -}}
{{- if and $policies .model.policiesPath -}}
{{- fail (printf "models.%s.policiesPath is for models without policies of the chart" $name) -}}
{{- end -}}
{{- if not .model.policiesPath -}}
{{- range $tenant := .model.tenants.list -}}
{{- range $tenant.require -}}
{{- $policy := regexReplaceAll "@.*$" . "" -}}
{{- if not (has $policy $policies) -}}
{{- fail (printf "models.%s: tenant %s requires the policy %s, which the model's pods do not have" $name $tenant.name $policy) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The API refuses a ConfigMap whose keys together hold more than 1 MiB. Takes {name, bytes}. */}}
{{- define "monet.checkConfigMap" -}}
{{- if gt (int64 .bytes) 1048576 -}}
{{- fail (printf "%s has %d bytes, a ConfigMap holds 1048576" .name (int64 .bytes)) -}}
{{- end -}}
{{- end -}}
