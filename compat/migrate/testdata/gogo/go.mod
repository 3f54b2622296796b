module gogo

go 1.26.0

require (
	github.com/gogo/protobuf v1.3.2
	go.etcd.io/raft/v3 v3.7.0
)

require google.golang.org/protobuf v1.36.11 // indirect
