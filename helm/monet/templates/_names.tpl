{{/* Names, labels and the image. */}}

{{- define "monet.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}{{ .Release.Name }}{{- else -}}{{ .Release.Name }}-{{ $name }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "monet.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "monet.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "monet.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default .Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What selects all pods of the release. */}}
{{- define "monet.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "monet.labels" -}}
{{ include "monet.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The same for one model; the context is that of "monet.model". */}}
{{- define "monet.modelName" -}}
{{ include "monet.fullname" .root }}-{{ .name }}
{{- end -}}

{{- define "monet.modelSelector" -}}
{{ include "monet.selector" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "monet.modelLabels" -}}
{{ include "monet.labels" .root }}
app.kubernetes.io/component: {{ .name }}
{{- end -}}

{{- define "monet.annotations" -}}
{{- with .Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}
