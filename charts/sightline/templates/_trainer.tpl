{{/* The pod of one run; @JOB@ stands for the Job's name, which follows from this text.
Takes (list $ name run trainer claim). */}}
{{- define "sightline.trainerPod" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $run := index . 2 -}}
{{- $trainer := index . 3 -}}
{{- $several := gt (int $trainer.nodes) 1 -}}
{{- $processes := int $trainer.processesPerNode -}}
metadata:
  labels:
    {{- include "sightline.podLabels" (list $root "trainer") | nindent 4 }}
    sightline.dev/run: {{ $name }}
  {{- with $trainer.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- include "sightline.podBasics" $root | nindent 2 }}
  {{- include "sightline.scheduling" $trainer | nindent 2 }}
  restartPolicy: OnFailure
  {{- if $several }}
  subdomain: {{ include "sightline.fullname" $root }}-{{ $name }}
  {{- end }}
  securityContext:
    {{- toYaml $root.Values.reward.podSecurityContext | nindent 4 }}
  containers:
    - name: trainer
      image: {{ include "sightline.image" (list $root $trainer.image) }}
      imagePullPolicy: {{ $trainer.image.pullPolicy }}
      {{- if or $several (gt $processes 1) }}
      command:
        - torchrun
        {{- if $several }}
        - --nnodes={{ $trainer.nodes }}
        - --node-rank=$(NODE_RANK)
        - --master-addr=@JOB@-0.{{ include "sightline.fullname" $root }}-{{ $name }}.{{ $root.Release.Namespace }}.svc.{{ $root.Values.clusterDomain }}
        - --master-port=29500
        {{- else }}
        - --standalone
        {{- end }}
        - --nproc-per-node={{ $processes }}
        - -m
        - sightline_trainers
      {{- else }}
      command: ["sightline", "train"]
      {{- end }}
      args:
        - {{ $run.method }}
        - --config
        - /etc/sightline/run/config.yaml
        - --output_dir
        - /runs/{{ $name }}
        - --resume
        {{- with $trainer.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: REWARD_URL
          value: {{ $trainer.rewardUrl | default (include "sightline.url" $root) | quote }}
        {{- include "sightline.clientEnv" $root | nindent 8 }}
        {{- if $several }}
        - name: NODE_RANK
          valueFrom:
            fieldRef:
              fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
        {{- end }}
        {{- if $root.Values.modelCache.enabled }}
        - name: HF_HOME
          value: /models
        {{- else }}
        - name: HF_HOME
          value: /tmp/huggingface
        {{- end }}
        {{- include "sightline.hubEnv" (list $root $root.Values.hub.online) | nindent 8 }}
        - name: HOME
          value: /tmp
        {{- with $trainer.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $trainer.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- if $several }}
      ports:
        - name: rendezvous
          containerPort: 29500
      {{- end }}
      resources:
        {{- toYaml $trainer.resources | nindent 8 }}
      securityContext:
        {{- toYaml $root.Values.reward.securityContext | nindent 8 }}
      volumeMounts:
        - name: run
          mountPath: /etc/sightline/run
          readOnly: true
        - name: output
          mountPath: /runs
        - name: tmp
          mountPath: /tmp
        - name: shm
          mountPath: /dev/shm
        {{- if $root.Values.modelCache.enabled }}
        - name: models
          mountPath: /models
          readOnly: true
        {{- end }}
        {{- with $trainer.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: run
      configMap:
        name: {{ include "sightline.fullname" $root }}-{{ $name }}
    - name: output
      persistentVolumeClaim:
        claimName: {{ index . 4 }}
    - name: tmp
      emptyDir:
        sizeLimit: {{ $trainer.tmpSize }}
    - name: shm
      emptyDir:
        medium: Memory
        sizeLimit: {{ $trainer.shmSize }}
    {{- if $root.Values.modelCache.enabled }}
    - name: models
      persistentVolumeClaim:
        claimName: {{ include "sightline.cacheClaim" $root }}
    {{- end }}
    {{- with $trainer.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end -}}
