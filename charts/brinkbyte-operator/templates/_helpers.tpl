{{- define "brinkbyte-operator.fullname" -}}
{{- if contains "brinkbyte-operator" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-brinkbyte-operator" (.Release.Name | trunc 31 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{- define "brinkbyte-operator.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "brinkbyte-operator.fullname" .) -}}
{{- end -}}

{{- define "brinkbyte-operator.selectorLabels" -}}
app.kubernetes.io/name: brinkbyte-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "brinkbyte-operator.labels" -}}
{{ include "brinkbyte-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "brinkbyte-operator.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- $separator := hasPrefix "sha256:" $tag | ternary "@" ":" -}}
{{- printf "%s%s%s" .Values.image.repository $separator $tag -}}
{{- end -}}

{{- define "brinkbyte-operator.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .Values.runAsUser }}
runAsGroup: {{ .Values.runAsUser }}
fsGroup: {{ .Values.runAsUser }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "brinkbyte-operator.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}
