package rpc

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// checkedByHand are valid messages of the types that plainlyValid knows.
func checkedByHand() []proto.Message {
	const id = "3f2504e0-4f89-41d3-9A0C-0305E82C3301"
	return []proto.Message{
		&xunchav1.SubmitCheckInRequest{CheckIn: &xunchav1.CheckIn{
			CheckInId: id, SiteId: id, CaptureTime: timestamppb.Now(), Finding: xunchav1.Finding_FINDING_OPEN,
			CancelledEventCount: 1000, DispersedPeopleCount: 100_000, Note: strings.Repeat("字", 5000),
			Photos: []*xunchav1.Photo{
				{Sha256: make([]byte, 32), SizeBytes: 20 << 20, ContentType: "image/jpeg"},
				{Sha256: make([]byte, 32), SizeBytes: -1, ContentType: strings.Repeat("型", 1000), Width: -1, Height: 1},
			},
			Location: &xunchav1.Location{Latitude: -90, Longitude: 180, AccuracyM: 100_000, Datum: xunchav1.Datum_DATUM_GCJ02},
		}},
		&xunchav1.SubmitCheckInRequest{CheckIn: &xunchav1.CheckIn{
			CheckInId: id, SiteId: id, CaptureTime: timestamppb.Now(), Finding: xunchav1.Finding_FINDING_CLOSED,
			Photos: slices.Repeat([]*xunchav1.Photo{{Sha256: make([]byte, 32)}}, 100),
		}},
		&xunchav1.GetCheckInRequest{SiteId: id, CheckInId: id},
		&xunchav1.GetCoverageRequest{DivisionCode: "511602", StartTime: timestamppb.Now(), Depth: 3},
		&xunchav1.ListDueSitesRequest{DivisionCode: "511602001001", State: xunchav1.DueState_DUE_STATE_OVERDUE, PageSize: 20, PageToken: "token"},
		&xunchav1.ListSiteHistoryRequest{SiteId: id, PageSize: math.MaxInt32, PageToken: strings.Repeat("t", 1024), IncludeRecords: true},
		&xunchav1.UploadPhotoRequest{Part: &xunchav1.UploadPhotoRequest_Data{Data: []byte("data")}},
	}
}

// What is checked by hand is accepted and refused as protovalidate does it, whatever
// is changed in a message.
func TestPlainlyValid(t *testing.T) {
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, valid := range checkedByHand() {
		name := valid.ProtoReflect().Descriptor().Name()
		if err := validator.Validate(valid); err != nil || !plainlyValid(valid) {
			t.Errorf("%s: got %v by hand and %v, want it valid", name, plainlyValid(valid), err)
		}
		accepted := 0
		for range 20_000 {
			m := proto.Clone(valid)
			for range 1 + random.IntN(3) {
				mutate(random, m.ProtoReflect())
			}
			want := validator.Validate(m)
			if got := plainlyValid(m); got != (want == nil) {
				t.Fatalf("got %v by hand, and %v of %v", got, want, m)
			}
			if want == nil {
				accepted++
			}
		}
		// A message that is always valid, or never, would tell nothing.
		if accepted < 1000 || accepted > 19_500 {
			t.Errorf("%s: %d of 20,000 were accepted", name, accepted)
		}
	}
	if plainlyValid(&xunchav1.GetSiteRequest{}) {
		t.Error("a message that is not checked by hand is valid by hand")
	}
}

// mutate changes a field of the message, or of one in it.
func mutate(r *rand.Rand, m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	f := fields.Get(r.IntN(fields.Len()))
	switch {
	case r.IntN(6) == 0:
		m.Clear(f)
	case f.IsList():
		list := m.Mutable(f).List()
		for range r.IntN(12) - 3 {
			list.Append(anyValue(r, f, list.NewElement))
		}
		if n := list.Len(); n > 0 && f.Message() != nil {
			mutate(r, list.Get(r.IntN(n)).Message())
		} else if n > 0 {
			list.Set(r.IntN(n), anyValue(r, f, list.NewElement))
		}
	case f.Message() != nil:
		mutate(r, m.Mutable(f).Message())
	default:
		old := m.Get(f)
		if f.Kind() == protoreflect.StringKind && old.String() != "" && r.IntN(2) == 0 {
			m.Set(f, protoreflect.ValueOfString(mutateText(r, old.String())))
			return
		}
		m.Set(f, anyValue(r, f, nil))
	}
}

// mutateText changes a character of a text, or its length.
func mutateText(r *rand.Rand, text string) string {
	runes := []rune(text)
	at := r.IntN(len(runes))
	switch r.IntN(4) {
	case 0:
		return string(runes[:at]) + string(runes[at+1:])
	case 1:
		return text + string(runes[at])
	case 2:
		return string(runes[:at]) + strings.ToUpper(string(runes[at])) + string(runes[at+1:])
	}
	others := []rune("0aAfFgG-_ \n字{}:`@٣") // also a digit that is not ASCII's
	runes[at] = others[r.IntN(len(others))]
	return string(runes)
}

// anyValue returns a value of the field's kind, often one at a bound.
func anyValue(r *rand.Rand, f protoreflect.FieldDescriptor, element func() protoreflect.Value) protoreflect.Value {
	pick := func(list ...float64) float64 { return list[r.IntN(len(list))] }
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(9) - 1))
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(pick(math.MinInt32, -1, 0, 1, 3, 4, 1000, 1001, 100_000, 100_001, math.MaxInt32)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(pick(math.MinInt64, -1, 0, 1, 20<<20, 20<<20+1, 1<<62)))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(pick(math.NaN(), math.Inf(1), math.Inf(-1), 0, math.Copysign(0, -1), -90, 90, 90.000001, -180, 180, -180.01, 100_000, 100_001, -1e-300))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(make([]byte, []int{0, 31, 32, 33}[r.IntN(4)]))
	case protoreflect.StringKind:
		texts := []string{
			"", "a", "511602", "511602001", "511602001001", "51160", "5116020", "511602\n", "３２５１６０", "image/jpeg", "image/png", "image/gif",
			"3f2504e0-4f89-41d3-9a0c-0305e82c3301", "3f2504e04f8941d39a0c0305e82c3301", "urn:uuid:3f2504e0-4f89-41d3-9a0c-0305e82c3301",
			"{3f2504e0-4f89-41d3-9a0c-0305e82c3301}", "3f2504e0-4f89-41d3-9a0c-0305e82c330g", "3f2504e0-4f89-41d3-9a0c-0305e82c33011",
			strings.Repeat("x", 5000), strings.Repeat("x", 5001), strings.Repeat("字", 5000), strings.Repeat("字", 5001),
			strings.Repeat("x", 1024), strings.Repeat("x", 1025), strings.Repeat("𝄞", 1024), strings.Repeat("𝄞", 1025),
		}
		return protoreflect.ValueOfString(texts[r.IntN(len(texts))])
	}
	return element()
}

// BenchmarkValidate measures what checking a check-in takes.
func BenchmarkValidate(b *testing.B) {
	validator, err := protovalidate.New()
	if err != nil {
		b.Fatal(err)
	}
	m := checkedByHand()[0].(*xunchav1.SubmitCheckInRequest)
	m.CheckIn.Note = "门口已张贴通知"
	b.Run("by hand", func(b *testing.B) {
		for b.Loop() {
			if !plainlyValid(m) {
				b.Fatal("it is not valid")
			}
		}
	})
	b.Run("protovalidate", func(b *testing.B) {
		for b.Loop() {
			if err := validator.Validate(m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
