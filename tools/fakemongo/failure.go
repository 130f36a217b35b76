package main

import (
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The codes that MongoDB gives to what fails.
const (
	codeBadValue         = 2
	codeFailedToParse    = 9
	codeTypeMismatch     = 14
	codeIllegalOperation = 20
	codeNoNamespace      = 26
	codeCursorNotFound   = 43
	codeNamespaceExists  = 48
	codeMaxTimeExpired   = 50
	codeCommandNotFound  = 59
	codeImmutableField   = 66
	codeOptionsConflict  = 85
	codeKeySpecsConflict = 86
	codeNoPrimary        = 133
	codeDuplicateKey     = 11000
)

var codeNames = map[int]string{
	codeBadValue: "BadValue", codeFailedToParse: "FailedToParse", codeTypeMismatch: "TypeMismatch",
	codeIllegalOperation: "IllegalOperation", codeNoNamespace: "NamespaceNotFound", codeCursorNotFound: "CursorNotFound",
	codeNamespaceExists: "NamespaceExists", codeMaxTimeExpired: "MaxTimeMSExpired", codeCommandNotFound: "CommandNotFound",
	codeImmutableField: "ImmutableField", codeOptionsConflict: "IndexOptionsConflict",
	codeKeySpecsConflict: "IndexKeySpecsConflict", codeNoPrimary: "FailedToSatisfyReadPreference", codeDuplicateKey: "DuplicateKey",
}

// A failure is an error that a client is told.
type failure struct {
	code int
	text string
	// details are further fields of the answer.
	details bson.D
}

func (f *failure) Error() string { return f.text }

func fail(code int, format string, args ...any) *failure {
	return &failure{code: code, text: fmt.Sprintf(format, args...)}
}

// errGone means that the client has gone, so nobody is to be answered.
var errGone = errors.New("the client has gone")

// failureOf returns what a client is told of an error.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	return fail(codeBadValue, "%v", err)
}

// fields are those by which an answer names the failure.
func (f *failure) fields() bson.D {
	return append(bson.D{
		{Key: "code", Value: int32(f.code)}, {Key: "codeName", Value: codeNames[f.code]}, {Key: "errmsg", Value: f.text},
	}, f.details...)
}
