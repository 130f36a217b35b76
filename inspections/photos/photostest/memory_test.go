package photostest

import (
	"testing"

	"xuncha/inspections/photos"
)

// An opened is a Memory as the suite opens an engine's store.
type opened struct{ Memory }

// Photos implements Engine.
func (o *opened) Photos() photos.Store { return &o.Memory }

// ForgetPhoto implements Engine.
func (o *opened) ForgetPhoto(_ testing.TB, k photos.Kept) { o.Forget(k.Ref) }

// RecallPhoto implements Engine.
func (o *opened) RecallPhoto(_ testing.TB, k photos.Kept) { o.Recall(k) }

// TestMemory holds that what tests of the domain stand on keeps the contract.
func TestMemory(t *testing.T) {
	Run(t, func(testing.TB) *opened { return &opened{} }, func(_ testing.TB, o *opened) *opened { return o })
}
