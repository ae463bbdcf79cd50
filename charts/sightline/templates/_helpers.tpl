{{/* Names, labels and the small pieces that several objects share. */}}

{{- define "sightline.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that a Job's pod, the longest name, stays within 63. */}}
{{- define "sightline.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that never change, for selectors. Takes (list $ component). */}}
{{- define "sightline.selector" -}}
app.kubernetes.io/name: {{ include "sightline.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of every object. Takes (list $ component). */}}
{{- define "sightline.labels" -}}
{{ include "sightline.selector" . }}
{{ with index . 0 -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Labels of pods, without those that change with each version. Takes (list $ component). */}}
{{- define "sightline.podLabels" -}}
{{ include "sightline.selector" . }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "sightline.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "sightline.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Takes (list $ image). */}}
{{- define "sightline.image" -}}
{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* A value as the text of an environment variable: whole numbers without an exponent, lists with commas. */}}
{{- define "sightline.text" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Not empty where one Service of this release answers every path. */}}
{{- define "sightline.oneUrl" -}}
{{- if or .Values.router.enabled (eq .Values.layout "together") -}}yes{{- end -}}
{{- end -}}

{{/* Where clients find the service. */}}
{{- define "sightline.host" -}}
{{- printf "%s.%s.svc.%s" (include "sightline.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}
{{- define "sightline.url" -}}
{{- printf "http://%s:%d" (include "sightline.host" .) (int .Values.service.port) -}}
{{- end -}}

{{/* The reward Deployments as JSON by name: what each of them runs with, and its models by role. */}}
{{- define "sightline.components" -}}
{{- $components := dict -}}
{{- $together := dict -}}
{{- range $role := list "similarity" "detector" "perplexity" -}}
{{- $model := index $.Values.models $role -}}
{{- $overrides := omit $model "enabled" "reference" -}}
{{- if $model.enabled -}}
{{- $_ := set $together $role $model.reference -}}
{{- $component := mergeOverwrite (deepCopy $.Values.reward) (deepCopy $overrides) -}}
{{- $_ := set $component "references" (dict $role $model.reference) -}}
{{- $_ := set $components $role $component -}}
{{- end -}}
{{- if and $overrides (eq $.Values.layout "together") -}}
{{- fail (printf "models.%s.%s: with layout together all models share `reward`; set it there" $role (keys $overrides | sortAlpha | first)) -}}
{{- end -}}
{{- end -}}
{{- if not $together -}}
{{- fail "models: similarity, detector and perplexity are all disabled; enable at least one" -}}
{{- end -}}
{{- if eq .Values.layout "together" -}}
{{- $components = dict "reward" (merge (dict "references" $together) (deepCopy .Values.reward)) -}}
{{- end -}}
{{- toJson $components -}}
{{- end -}}

{{/* Which component answers for a role, empty where the role is not served. Takes (list components role). */}}
{{- define "sightline.componentOf" -}}
{{- $role := index . 1 -}}
{{- range $name, $component := index . 0 -}}
{{- if hasKey $component.references $role -}}{{ $name }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Which component answers what is not a model's own path: the first that is served. */}}
{{- define "sightline.frontComponent" -}}
{{- $components := include "sightline.components" . | fromJson -}}
{{- range $name := list "reward" "similarity" "detector" "perplexity" | reverse -}}
{{- if hasKey $components $name -}}{{- $_ := set $components "front" $name -}}{{- end -}}
{{- end -}}
{{- $components.front -}}
{{- end -}}

{{/* The Service of one component: headless behind the router, which balances by itself. Takes (list $ component). */}}
{{- define "sightline.componentService" -}}
{{- printf "%s-%s%s" (include "sightline.fullname" (index . 0)) (index . 1) (ternary "-pods" "" (index . 0).Values.router.enabled) -}}
{{- end -}}

{{/* Ingress paths as JSON: path by component, most of them for what has a model of its own. */}}
{{- define "sightline.paths" -}}
{{- $components := include "sightline.components" . | fromJson -}}
{{- $paths := dict -}}
{{- $of := dict "token_reward" .Values.tokenScorer "sentence_reward" "similarity" "ground" "detector" "perplexity" "perplexity" -}}
{{- range $endpoint, $role := $of -}}
{{- $component := include "sightline.componentOf" (list $components $role) -}}
{{- if $component -}}
{{- $_ := set $paths (printf "/%s" $endpoint) $component -}}
{{- $_ := set $paths (printf "/v1/%s" $endpoint) $component -}}
{{- end -}}
{{- end -}}
{{- $_ := set $paths "/" (include "sightline.frontComponent" .) -}}
{{- toJson $paths -}}
{{- end -}}

{{/* References of models that do not ship with the image, as JSON: {"all": [..], "lockable": [..]}. */}}
{{- define "sightline.foreign" -}}
{{- $all := list -}}
{{- $lockable := list -}}
{{- range . | uniq | sortAlpha -}}
{{- if not (has . (list "world" "fake" "none")) -}}
{{- $all = append $all . -}}
{{- end -}}
{{- if regexMatch "^(hf|open_clip:hf-hub|open_clip:local-dir):" . -}}
{{- $lockable = append $lockable . -}}
{{- end -}}
{{- end -}}
{{- dict "all" $all "lockable" $lockable | toJson -}}
{{- end -}}

{{- define "sightline.cacheClaim" -}}
{{- .Values.modelCache.existingClaim | default (printf "%s-models" (include "sightline.fullname" .)) -}}
{{- end -}}

{{- define "sightline.profilesConfigMap" -}}
{{- if .Values.profiles.existingConfigMap -}}
{{- .Values.profiles.existingConfigMap -}}
{{- else if .Values.profiles.files -}}
{{- include "sightline.fullname" . }}-profiles
{{- end -}}
{{- end -}}

{{/* Ports of the cluster's DNS: 53, and 5353 where its pods listen there (OpenShift). */}}
{{- define "sightline.dnsPorts" -}}
{{- range list 53 5353 -}}
- port: {{ . }}
  protocol: UDP
- port: {{ . }}
  protocol: TCP
{{ end -}}
{{- end -}}

{{/* The key that a client of ours sends. */}}
{{- define "sightline.clientEnv" -}}
{{- if .Values.auth.enabled }}
- name: REWARD_API_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .Values.auth.existingSecret }}
      key: {{ .Values.auth.clientKey }}
{{- end }}
{{- end -}}

{{/* Whether, and how, a container reaches the hub. Takes (list $ online). */}}
{{- define "sightline.hubEnv" -}}
{{- $hub := (index . 0).Values.hub }}
- name: HF_HUB_OFFLINE
  value: {{ ternary "0" "1" (index . 1) | quote }}
{{- if index . 1 }}
{{- with $hub.endpoint }}
- name: HF_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- if $hub.existingSecret }}
- name: HF_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ $hub.existingSecret }}
      key: {{ $hub.tokenKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Refuses combinations that no schema can. */}}
{{- define "sightline.check" -}}
{{- if and .Values.auth.enabled (not .Values.auth.existingSecret) -}}
{{- fail (printf "auth.existingSecret is empty: make a Secret with the entries %s (one key a line) and %s (one of them), or set auth.enabled=false" .Values.auth.keysKey .Values.auth.clientKey) -}}
{{- end -}}
{{- if and .Values.profiles.default (not (include "sightline.profilesConfigMap" .)) -}}
{{- fail (printf "profiles.default is %q but there are no profiles: give profiles.files or profiles.existingConfigMap" .Values.profiles.default) -}}
{{- end -}}
{{- range $name, $component := include "sightline.components" . | fromJson -}}
{{- if and $component.autoscaling.enabled $component.keda.enabled -}}
{{- fail (printf "%s: autoscaling and keda are both enabled; two autoscalers fight over one Deployment" $name) -}}
{{- end -}}
{{- range $reference := (include "sightline.foreign" (values $component.references) | fromJson).all -}}
{{- if not (or $.Values.modelCache.enabled $.Values.modelCache.baked $.Values.hub.online) -}}
{{- fail (printf "%s comes from the hub or a folder: enable modelCache, bake it into the image (modelCache.baked), or set hub.online=true to download it at every start" $reference) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.modelCache.enabled .Values.modelCache.baked -}}
{{- fail "modelCache: enabled and baked exclude each other; the volume would hide the image's models" -}}
{{- end -}}
{{- if and .Values.trainers (not (include "sightline.oneUrl" .)) (not .Values.trainer.rewardUrl) -}}
{{- fail "trainers need one URL: enable router, take layout together, or give trainer.rewardUrl" -}}
{{- end -}}
{{- end -}}

{{/* The Service behind a path of the Ingress: the one URL where there is one. Takes (list $ component). */}}
{{- define "sightline.backend" -}}
{{- if or (index . 0).Values.router.enabled (eq (index . 1) "reward") -}}
{{- include "sightline.fullname" (index . 0) -}}
{{- else -}}
{{- include "sightline.componentService" . -}}
{{- end -}}
{{- end -}}
