{{- $components := include "sightline.components" . | fromJson -}}
{{- $paths := include "sightline.paths" . | fromJson -}}
{{- $front := include "sightline.frontComponent" . -}}
{{- $timeout := 60 -}}
{{- range $components -}}
{{- $timeout = max $timeout (ceil (.settings.request_timeout_s | default 60) | int) -}}
{{- end -}}
# Routes by path; keeps each image on one replica; asks another replica where one is gone.
# Every request may be repeated: scoring is pure, and an upload is named by its content.
worker_processes 2;
pid /tmp/nginx.pid;
error_log /dev/stderr warn;

events {
  worker_connections 4096;
}

http {
  server_tokens off;
  access_log off;
  client_body_temp_path /tmp/client_body;
  proxy_temp_path /tmp/proxy;
  fastcgi_temp_path /tmp/fastcgi;
  uwsgi_temp_path /tmp/uwsgi;
  scgi_temp_path /tmp/scgi;

  resolver {{ .Values.router.resolver }} valid={{ .Values.router.resolveSeconds }}s;

  # The image that a request is about: what the client says, else the image in the path, else any.
  map $uri $image_in_path {
    default "";
    "~^(?:/v1)?/images/(?<sha256>[0-9a-f]{64})$" $sha256;
  }
  map $image_in_path $image_or_any {
    default $image_in_path;
    "" $request_id;
  }
  map $http_x_sightline_image $image {
    default $image_or_any;
    "~^[0-9a-f]{64}$" $http_x_sightline_image;
  }

  # The model that an upload is for.
  map $http_x_sightline_endpoint $uploads {
    default {{ $front }};
    {{- range $endpoint := list "token_reward" "sentence_reward" "ground" "perplexity" }}
    {{- with get $paths (printf "/%s" $endpoint) }}
    {{ $endpoint }} {{ . }};
    {{- end }}
    {{- end }}
  }
{{ range $name, $component := $components }}
  upstream {{ $name }} {
    zone {{ $name }} 256k;
    hash $image consistent;
    server {{ include "sightline.componentService" (list $ $name) }}.{{ $.Release.Namespace }}.svc.{{ $.Values.clusterDomain }}:8000 resolve max_fails=1 fail_timeout=2s;
    keepalive 64;
  }
{{ end }}
  server {
    listen 0.0.0.0:8080;
    client_header_timeout {{ .Values.router.clientTimeoutSeconds }}s;
    client_body_timeout {{ .Values.router.clientTimeoutSeconds }}s;
    send_timeout {{ .Values.router.clientTimeoutSeconds }}s;
    keepalive_timeout 75s;
    # The service says itself what is too large; this bounds what is kept of it.
    client_max_body_size 1g;
    client_body_buffer_size 1m;

    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_connect_timeout 2s;
    proxy_read_timeout {{ add $timeout 5 }}s;
    proxy_next_upstream error timeout http_503 non_idempotent;
    proxy_next_upstream_tries 3;
    proxy_next_upstream_timeout 10s;

    location = /router/healthz {
      return 200 "ok\n";
    }
    # Each pod has its own: Prometheus reads them there.
    location = /metrics {
      return 404;
    }
    location ~ ^(?:/v1)?/images/ {
      proxy_pass http://$uploads;
    }
    {{- range $path, $component := $paths }}
    {{- if ne $path "/" }}
    location = {{ $path }} {
      proxy_pass http://{{ $component }};
    }
    {{- end }}
    {{- end }}
    location / {
      proxy_pass http://{{ $front }};
    }
  }
}
