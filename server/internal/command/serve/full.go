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

// noteGone returns what keeps among the problems whether the files of the database are no
// longer in the data folder.
func noteGone(problems *rpc.Problems) func(gone bool) {
	const name = "store gone"
	return func(gone bool) {
		if !gone {
			problems.Clear(name)
			return
		}
		problems.Set(name, rpc.Problem{
			Kind:    xunchav1.ProblemKind_PROBLEM_KIND_STORE_UNAVAILABLE,
			Message: "The files of the database are no longer in the data folder. Nothing is stored until they are back.",
			Since:   time.Now(),
		})
	}
}
