package serve

import (
	"time"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/rpc"
)

// noteFull returns what keeps among the problems whether the disk is full.
func noteFull(problems *rpc.Problems) func(full bool) {
	const name = "store full"
	return func(full bool) {
		if !full {
			problems.Clear(name)
			return
		}
		problems.Set(name, rpc.Problem{
			Kind:    xunchav1.ProblemKind_PROBLEM_KIND_STORE_FULL,
			Message: "The disk of the data folder is full. Only signing in, ending orders, disabling accounts and reading go on.",
			Since:   time.Now(),
		})
	}
}
