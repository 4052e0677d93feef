{{/* Parts of a model's pods; the context is that of "monet.model". */}}

{{- define "monet.probe" -}}
grpc: {port: 50052, service: {{ .service | quote }}}
periodSeconds: {{ int64 .times.periodSeconds }}
timeoutSeconds: 2
failureThreshold: {{ int64 .times.failureThreshold }}
{{- end -}}

{{- define "monet.resources" -}}
{{- $resources := deepCopy .model.resources -}}
{{- if .model.gpu.enabled -}}
{{- $limits := deepCopy (default dict (get $resources "limits")) -}}
{{- $_ := set $limits .model.gpu.resource (int64 .model.gpu.count) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "monet.serverContainer" -}}
name: server
image: {{ include "monet.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [/usr/bin/monet-server]
args:
- --config
- /etc/monet/server/monet.yaml
{{- with .model.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- with .model.extraEnv }}
env:
{{ toYaml . }}
{{- end }}
ports:
- {name: grpc, containerPort: 50051}
- {name: health, containerPort: 50052}
- {name: metrics, containerPort: 9090}
startupProbe:
  {{- include "monet.probe" (dict "service" "liveness" "times" .model.probes.startup) | nindent 2 }}
readinessProbe:
  {{- include "monet.probe" (dict "service" "" "times" .model.probes.readiness) | nindent 2 }}
livenessProbe:
  {{- include "monet.probe" (dict "service" "liveness" "times" .model.probes.liveness) | nindent 2 }}
{{- if gt (int64 .model.drain.preStopSeconds) 0 }}
lifecycle:
  preStop:
    sleep: {seconds: {{ int64 .model.drain.preStopSeconds }}}
{{- end }}
resources:
  {{- include "monet.resources" . | nindent 2 }}
securityContext:
  {{- toYaml .model.securityContext | nindent 2 }}
volumeMounts:
- {name: server, mountPath: /etc/monet/server, readOnly: true}
{{- if .policies }}
- {name: policies, mountPath: /etc/monet/policies, readOnly: true}
{{- end }}
{{- if include "monet.hasTenants" . }}
- {name: tenants, mountPath: /etc/monet/tenants, readOnly: true}
{{- end }}
{{- if .model.tenants.keysSecret.name }}
- {name: keys, mountPath: /etc/monet/keys, readOnly: true}
{{- end }}
{{- if .model.tls.secret }}
- {name: tls, mountPath: /etc/monet/tls, readOnly: true}
{{- end }}
{{- if .model.admin.enabled }}
- {name: admin, mountPath: /etc/monet/admin, readOnly: true}
{{- end }}
{{- if ne .model.source.type "image" }}
- {{ include "monet.modelMount" (dict "ctx" . "readOnly" true) }}
{{- end }}
{{- with .model.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "monet.modelMount" -}}
{{- $mount := dict "name" "model" "mountPath" "/model" "readOnly" .readOnly -}}
{{- $source := .ctx.model.source -}}
{{- if and (eq $source.type "pvc") $source.pvc.subPath -}}{{- $_ := set $mount "subPath" $source.pvc.subPath -}}{{- end -}}
{{- toJson $mount -}}
{{- end -}}

{{/* The user's container that brings the checkpoint, then ours that compares its files. */}}
{{- define "monet.initContainers" -}}
{{- $source := .model.source -}}
{{- if eq $source.type "init" }}
- name: model
  image: {{ $source.init.image | quote }}
  {{- with $source.init.command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $source.init.args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $source.init.env }}
  env:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $source.init.envFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  resources:
    {{- toYaml $source.init.resources | nindent 4 }}
  securityContext:
    {{- toYaml .model.securityContext | nindent 4 }}
  volumeMounts:
  - {{ include "monet.modelMount" (dict "ctx" . "readOnly" false) }}
  {{- with $source.init.volumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- if $source.sha256 }}
- name: verify
  image: {{ include "monet.image" .root | quote }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command:
  - /bin/sh
  - -euc
  - |
    cd /model
    find . -mindepth 1 ! -type d | sed 's|^\./||' | while IFS= read -r file; do
      grep -Fqx -- "$(printf '%s' "$file")" /etc/monet/sha256/FILES ||
        { echo "$file is not listed in source.sha256" >&2; exit 1; }
    done
    sha256sum --check --strict --quiet /etc/monet/sha256/SHA256SUMS
  resources:
    {{- toYaml $source.init.resources | nindent 4 }}
  securityContext:
    {{- toYaml .model.securityContext | nindent 4 }}
  volumeMounts:
  - {{ include "monet.modelMount" (dict "ctx" . "readOnly" true) }}
  - {name: sha256, mountPath: /etc/monet/sha256, readOnly: true}
{{- end }}
{{- end -}}

{{- define "monet.volumes" -}}
- name: server
  configMap: {name: {{ include "monet.modelName" . }}}
{{- if .policies }}
- name: policies
  projected:
    sources:
    {{- $root := .root }}
    {{- range .policies }}
    {{- include "monet.policySource" (dict "root" $root "name" .) | nindent 4 }}
    {{- end }}
{{- end }}
{{- if include "monet.hasTenants" . }}
- name: tenants
  configMap: {name: {{ include "monet.modelName" . }}-tenants}
{{- end }}
{{- with .model.tenants.keysSecret }}
{{- if .name }}
- name: keys
  secret:
    secretName: {{ .name }}
    optional: false
    items: [{key: {{ .key }}, path: keys.yaml}]
{{- end }}
{{- end }}
{{- with .model.tls.secret }}
- name: tls
  secret: {secretName: {{ . }}, optional: false}
{{- end }}
{{- if .model.admin.enabled }}
- name: admin
  secret:
    secretName: {{ .model.admin.tokenSecret.name }}
    optional: false
    items: [{key: {{ .model.admin.tokenSecret.key }}, path: token}]
{{- end }}
{{- if eq .model.source.type "pvc" }}
- name: model
  persistentVolumeClaim: {claimName: {{ .model.source.pvc.claimName }}, readOnly: true}
{{- else if eq .model.source.type "init" }}
- name: model
  emptyDir: {sizeLimit: {{ .model.source.sizeLimit }}}
{{- end }}
{{- if .model.source.sha256 }}
- name: sha256
  configMap: {name: {{ include "monet.modelName" . }}-sha256}
{{- end }}
{{- with .model.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* One policy's place in the projected volume. The list of items is the same whichever versions there are, up to the reserved
     one: a new version must not change the pod, or it would be a rollout. Absent keys are passed over. */}}
{{- define "monet.policySource" -}}
{{- $name := .name -}}
{{- $policy := index .root.Values.policies .name -}}
{{- $last := int .root.Values.policyReservedVersions -}}
{{- range $version, $_ := $policy.versions -}}{{- $last = max $last (int $version) | int -}}{{- end -}}
- configMap:
    name: {{ default (printf "%s-policy-%s" (include "monet.fullname" .root) .name) $policy.configMap }}
    optional: true
    items:
    {{- range untilStep 1 (int (add $last 1)) 1 }}
    - {key: {{ . }}.yaml, path: {{ $name }}/{{ . }}.yaml}
    - {key: {{ . }}.mask, path: {{ $name }}/{{ . }}.mask}
    {{- end }}
{{- end -}}
