// A stand-in for MongoDB by which several servers on one database are measured
// and tested. It has a module of its own so that neither the product nor its
// other tools depend on it.
module xuncha/tools/fakemongo

go 1.26.0

require (
	github.com/tidwall/btree v1.8.2
	go.mongodb.org/mongo-driver/v2 v2.10.0
	golang.org/x/sys v0.50.0
)
