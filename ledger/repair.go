package ledger

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// KindRepaired is the kind of an entry by which an operator sets aside entries that do
// not verify. It deletes nothing: from then on, what it names counts nowhere, and the
// history verifies. It stands at the end of the history that it is about.
const KindRepaired Kind = "history_repaired"

// KindSetAside is the kind under which a projection is shown an entry that was set
// aside, or is missing and was. No record has it.
const KindSetAside Kind = "set_aside"

// A Repair is what an entry of the kind history_repaired says.
type Repair struct {
	SetAside []Aside `json:"set_aside"`
	// Reason is the operator's.
	Reason string `json:"reason"`
}

// An Aside names an entry that a repair sets aside by its sequence and what it was
// like. Where it is like something else later, as after it was brought back from a
// backup, it is not set aside.
type Aside struct {
	Sequence Sequence `json:"sequence"`
	// Hash is the hash that is stored with it, in hexadecimal. It is empty where the
	// entry is missing.
	Hash string `json:"hash"`
	// RecordSHA256 is that of the stored bytes, in hexadecimal. It is empty where the
	// entry is missing.
	RecordSHA256 string `json:"record_sha256"`
}

// Marshal returns the content of the repair's entry. One that is longer than MaxContent
// has to be divided into several.
func (r Repair) Marshal() ([]byte, error) { return MarshalContent(r) }

// ParseRepair reads what an entry of the kind history_repaired says. The error wraps
// ErrBadRecord.
func ParseRepair(e Entry) (r Repair, err error) {
	if e.Kind != KindRepaired {
		return r, fmt.Errorf("%w: %s at sequence %d is no repair", ErrBadRecord, e.History, e.Sequence)
	}
	if err := json.Unmarshal(Content(e.Record), &r); err != nil {
		return r, fmt.Errorf("%w: %s at sequence %d: %v", ErrBadRecord, e.History, e.Sequence, err)
	}
	return r, nil
}

// AsideOf names an entry as it is stored.
func AsideOf(e Entry) Aside {
	sum := sha256.Sum256(e.Record)
	return Aside{e.Sequence, hex.EncodeToString(e.Hash[:]), hex.EncodeToString(sum[:])}
}
