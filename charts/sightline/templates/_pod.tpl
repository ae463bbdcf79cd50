{{/* What schedules a pod, from any block that has these keys. */}}
{{- define "sightline.scheduling" -}}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What every pod has. enableServiceLinks is off because a Service named sightline would otherwise
set SIGHTLINE_PORT=tcp://.. in each container. */}}
{{- define "sightline.podBasics" -}}
serviceAccountName: {{ include "sightline.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Spread over nodes and zones. Takes (list $ component constraints). */}}
{{- define "sightline.spread" -}}
{{- with index . 2 }}
topologySpreadConstraints:
  {{- range . }}
  - {{ toYaml . | nindent 4 | trim }}
    {{- if not .labelSelector }}
    labelSelector:
      matchLabels:
        {{- include "sightline.selector" (list (index $ 0) (index $ 1)) | nindent 8 }}
    {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The environment of `sightline serve`. Takes (list $ component). */}}
{{- define "sightline.rewardEnv" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
- name: SIGHTLINE_HOST
  value: 0.0.0.0
- name: SIGHTLINE_PORT
  value: "8000"
{{- range $role := list "similarity" "detector" "perplexity" }}
- name: SIGHTLINE_{{ upper $role }}
  value: {{ get $component.references $role | default "none" | quote }}
{{- end }}
{{- range $name, $value := $component.settings }}
- name: SIGHTLINE_{{ upper $name }}
  value: {{ include "sightline.text" $value | quote }}
{{- end }}
{{- if and (eq $root.Values.tokenScorer "detector") (hasKey $component.references "detector") }}
- name: SIGHTLINE_TOKEN_SCORER
  value: detector
{{- end }}
{{- if $root.Values.auth.enabled }}
- name: SIGHTLINE_API_KEY_FILE
  value: /etc/sightline/keys/{{ $root.Values.auth.keysKey }}
{{- end }}
{{- if and (hasKey $component.references $root.Values.tokenScorer) (include "sightline.profilesConfigMap" $root) }}
- name: SIGHTLINE_PROFILES_DIR
  value: /etc/sightline/profiles
{{- with $root.Values.profiles.default }}
- name: SIGHTLINE_PROFILE
  value: /etc/sightline/profiles/{{ . }}.json
{{- end }}
{{- end }}
{{- if or $root.Values.modelCache.enabled $root.Values.modelCache.baked }}
{{- if $root.Values.modelCache.lock }}
- name: SIGHTLINE_WEIGHTS_LOCK
  value: /models/weights.lock.json
{{- end }}
- name: HF_HOME
  value: /models
{{- else }}
- name: HF_HOME
  value: /tmp/huggingface
{{- end }}
{{- include "sightline.hubEnv" (list $root $root.Values.hub.online) }}
- name: HOME
  value: /tmp
{{- with $component.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Mounts of the reward container. Takes (list $ component). */}}
{{- define "sightline.rewardMounts" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
- name: tmp
  mountPath: /tmp
{{- if $root.Values.auth.enabled }}
- name: keys
  mountPath: /etc/sightline/keys
  readOnly: true
{{- end }}
{{- if and (hasKey $component.references $root.Values.tokenScorer) (include "sightline.profilesConfigMap" $root) }}
- name: profiles
  mountPath: /etc/sightline/profiles
  readOnly: true
{{- end }}
{{- if $root.Values.modelCache.enabled }}
- name: models
  mountPath: /models
  readOnly: true
{{- end }}
{{- with $component.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Volumes of the reward pod. Takes (list $ component). */}}
{{- define "sightline.rewardVolumes" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
- name: tmp
  emptyDir:
    sizeLimit: {{ $component.tmpSize }}
{{- if $root.Values.auth.enabled }}
- name: keys
  secret:
    secretName: {{ $root.Values.auth.existingSecret }}
    defaultMode: 0440
    items:
      - key: {{ $root.Values.auth.keysKey }}
        path: {{ $root.Values.auth.keysKey }}
{{- end }}
{{- if and (hasKey $component.references $root.Values.tokenScorer) (include "sightline.profilesConfigMap" $root) }}
- name: profiles
  configMap:
    name: {{ include "sightline.profilesConfigMap" $root }}
{{- end }}
{{- if $root.Values.modelCache.enabled }}
- name: models
  persistentVolumeClaim:
    claimName: {{ include "sightline.cacheClaim" $root }}
{{- end }}
{{- with $component.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Brings the weights, or checks them, before the service starts. Takes (list $ component). */}}
{{- define "sightline.weightsContainer" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $cache := $root.Values.modelCache -}}
{{- $references := (include "sightline.foreign" (values $component.references) | fromJson).lockable -}}
{{- if and $cache.enabled (ne $cache.init "none") $references -}}
- name: weights
  image: {{ include "sightline.image" (list $root $root.Values.image) }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: ["sightline", "weights"]
  {{- if eq $cache.init "fetch" }}
  args: ["fetch", "--folder", "/models"{{ range $references }}, {{ . | quote }}{{ end }}]
  {{- else }}
  args: ["verify", "--folder", "/models"]
  {{- end }}
  env:
    - name: HOME
      value: /tmp
    {{- include "sightline.hubEnv" (list $root (eq $cache.init "fetch")) | nindent 4 }}
  securityContext:
    {{- toYaml $component.securityContext | nindent 4 }}
  resources:
    {{- toYaml $cache.initResources | nindent 4 }}
  volumeMounts:
    - name: models
      mountPath: /models
      readOnly: {{ ne $cache.init "fetch" }}
    - name: tmp
      mountPath: /tmp
{{- end }}
{{- end -}}
