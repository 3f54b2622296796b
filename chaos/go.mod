module github.com/seed-4d73690b/rafthttp/chaos

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/seed-4d73690b/rafthttp v0.0.0
	github.com/stretchr/testify v1.12.1
	go.etcd.io/etcd/client/pkg/v3 v3.7.3
	go.etcd.io/raft/v3 v3.7.0
	go.uber.org/goleak v1.3.0
	go.uber.org/zap v1.28.0
	golang.org/x/sys v0.49.0
	golang.org/x/time v0.16.0
	google.golang.org/protobuf v1.36.11
)

require (
	go.uber.org/multierr v1.11.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/seed-4d73690b/rafthttp => ../
