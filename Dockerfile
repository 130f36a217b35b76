# The server as one static binary, for compose.yaml: it has no place for a data
# folder.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /xuncha ./server

FROM scratch
# For TLS to a database.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /xuncha /usr/local/bin/xuncha
ENV PATH=/usr/local/bin
USER 65532
ENTRYPOINT ["xuncha"]
CMD ["serve"]
