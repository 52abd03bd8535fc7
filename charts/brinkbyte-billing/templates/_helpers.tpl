{{- define "brinkbyte-billing.fullname" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "brinkbyte-billing.selectorLabels" -}}
app.kubernetes.io/name: brinkbyte-billing
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "brinkbyte-billing.labels" -}}
{{ include "brinkbyte-billing.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "brinkbyte-billing.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- $separator := hasPrefix "sha256:" $tag | ternary "@" ":" -}}
{{- printf "%s%s%s" .Values.image.repository $separator $tag -}}
{{- end -}}

{{- define "brinkbyte-billing.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "brinkbyte-billing.fullname" .)) -}}
{{- end -}}

{{- define "brinkbyte-billing.pepperSecret" -}}
{{- .Values.pepper.existingSecret | default (printf "%s-pepper" (include "brinkbyte-billing.fullname" .)) -}}
{{- end -}}

{{- define "brinkbyte-billing.signingKeysSecret" -}}
{{- required "signingKeys.existingSecret is empty: make the keys with `brinkbyte billing keys signing --out DIR`, then `kubectl create secret generic NAME --from-file DIR`, and name that Secret" .Values.signingKeys.existingSecret -}}
{{- end -}}

{{- define "brinkbyte-billing.databaseSecret" -}}
{{- if and .Values.postgres.bundled .Values.database.existingSecret -}}
{{- fail "database.existingSecret and postgres.bundled exclude each other: keep the one you want" -}}
{{- end -}}
{{- if .Values.postgres.bundled -}}
{{- printf "%s-database" (include "brinkbyte-billing.fullname" .) -}}
{{- else -}}
{{- required "database.existingSecret is empty: name a Secret with api-url, worker-url, admin-url and migration-url, or set postgres.bundled=true for a demo" .Values.database.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "brinkbyte-billing.hosts" -}}
{{- $name := include "brinkbyte-billing.fullname" . -}}
{{- $service := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace) "localhost" -}}
{{- concat $service .Values.tls.hosts | uniq | toJson -}}
{{- end -}}

{{- define "brinkbyte-billing.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Pod security of our own image: (dict "user" uid). */}}
{{- define "brinkbyte-billing.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where pods of this chart may be put. */}}
{{- define "brinkbyte-billing.placement" -}}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Who sells, and when what is due: environment of the API (documents) and the worker (dates). */}}
{{- define "brinkbyte-billing.invoices" -}}
- name: BRINKBYTE_SELLER_NAME
  value: {{ .Values.invoices.seller.name | quote }}
- name: BRINKBYTE_SELLER_ADDRESS
  value: {{ join "|" .Values.invoices.seller.address | quote }}
- name: BRINKBYTE_SELLER_TAX_ID
  value: {{ .Values.invoices.seller.taxId | quote }}
- name: BRINKBYTE_SELLER_EMAIL
  value: {{ .Values.invoices.seller.email | quote }}
- name: BRINKBYTE_SELLER_PAYMENT
  value: {{ join "|" .Values.invoices.seller.payment | quote }}
- name: BRINKBYTE_INVOICE_DUE_DAYS
  value: {{ .Values.invoices.dueDays | quote }}
{{- end -}}

{{/* Secret of Stripe's keys; empty with another provider. */}}
{{- define "brinkbyte-billing.stripeSecret" -}}
{{- if eq .Values.provider.name "stripe" -}}
{{- required "provider.stripe.existingSecret is empty: name a Secret with api-key and webhook-secrets, or set provider.name=local" .Values.provider.stripe.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* Who collects and how people are told: environment of the worker. */}}
{{- define "brinkbyte-billing.workerRooms" -}}
- name: BRINKBYTE_BILLING_PROVIDER
  value: {{ .Values.provider.name }}
{{- if include "brinkbyte-billing.stripeSecret" . }}
- name: BRINKBYTE_STRIPE_API_KEY_FILE
  value: /etc/brinkbyte/stripe/api-key
- name: BRINKBYTE_STRIPE_AUTOMATIC_TAX
  value: {{ .Values.provider.stripe.automaticTax | quote }}
{{- end }}
{{- with .Values.notifications }}
{{- if .smtp.host }}
- name: BRINKBYTE_SMTP_HOST
  value: {{ .smtp.host | quote }}
- name: BRINKBYTE_SMTP_PORT
  value: {{ .smtp.port | quote }}
- name: BRINKBYTE_SMTP_SECURITY
  value: {{ .smtp.security | quote }}
- name: BRINKBYTE_SMTP_FROM
  value: {{ .smtp.from | quote }}
{{- with .smtp.username }}
- name: BRINKBYTE_SMTP_USERNAME
  value: {{ . | quote }}
{{- end }}
{{- end }}
{{- if .sms.url }}
- name: BRINKBYTE_SMS_URL
  value: {{ .sms.url | quote }}
- name: BRINKBYTE_SMS_FROM
  value: {{ .sms.from | quote }}
{{- end }}
{{- if .existingSecret }}
- name: BRINKBYTE_SMTP_PASSWORD_FILE
  value: /etc/brinkbyte/notifications/smtp-password
- name: BRINKBYTE_SMS_TOKEN_FILE
  value: /etc/brinkbyte/notifications/sms-token
{{- end }}
- name: BRINKBYTE_PORTAL_URL
  value: {{ .portalUrl | quote }}
- name: BRINKBYTE_WEBHOOK_ALLOW_PRIVATE
  value: {{ .webhookAllowPrivate | quote }}
{{- end }}
{{- end -}}
