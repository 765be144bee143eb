# tenantgate as one static binary: no shell, no libc, not root.
#
#   docker build -t tenantgate .
#   docker run --rm --network host tenantgate demo
#   docker run --rm -p 8080:8080 -v ./config.yaml:/data/config.yaml:ro -v ./secret:/run/secrets/tenantgate:ro tenantgate
#
# The demo stands on loopback only, hence --network host. There is no HEALTHCHECK: it would need a program in the image
# that asks; orchestrators ask /healthz and /readyz on the admin listener themselves.

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /out/tenantgate ./cmd/proxy
RUN mkdir /out/tmp /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/tenantgate /tenantgate
# The demo keeps its databases in /tmp; SQLite and ./config.yaml live in /data.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/tmp /tmp
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532
WORKDIR /data
EXPOSE 8080
ENTRYPOINT ["/tenantgate"]
CMD ["serve"]
