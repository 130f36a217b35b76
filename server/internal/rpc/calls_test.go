package rpc

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	xunchav1 "xuncha/proto/xuncha/v1"
)

// A callFile is a file of testdata/calls: calls that people made one after the other. In
// its requests {"$t": "-5d"} is a time, relative to now, to which "ns" adds nanoseconds;
// "$id:x" a UUID, the same for the same x; "$site:NO" the id of the site with the
// registration number; and "$order" what an earlier call has saved as that.
type callFile struct {
	Steps []struct {
		Call string
		Req  json.RawMessage
		// Save has the paths of what later calls need of the response, by name.
		Save map[string]string
	}
}

// An answer is what came of a call.
type answer struct {
	proto.Message
	err error
}

// play makes the calls of the file and returns what came of each.
func (w *world) play(t testing.TB, name string) []answer {
	t.Helper()
	var file callFile
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join("testdata", "calls", name)))(t), &file); err != nil {
		t.Fatal(err)
	}
	saved := map[string]string{}
	for _, s := range w.sites {
		saved["site:"+s.RegistrationNo] = s.SiteId
	}
	var out []answer
	for _, step := range file.Steps {
		service, method, _ := strings.Cut(step.Call, "/")
		found := must(protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("xuncha.v1." + service + "." + method)))(t).(protoreflect.MethodDescriptor)
		message := func(d protoreflect.MessageDescriptor) proto.Message {
			return must(protoregistry.GlobalTypes.FindMessageByName(d.FullName()))(t).New().Interface()
		}
		req, res := message(found.Input()), message(found.Output())
		var spelled any
		if err := json.Unmarshal(step.Req, &spelled); err != nil {
			t.Fatal(err)
		}
		if err := protojson.Unmarshal(must(json.Marshal(w.spell(t, spelled, saved)))(t), req); err != nil {
			t.Fatalf("%s: %s: %v", name, step.Call, err)
		}
		err := w.conn.Invoke(t.Context(), "/xuncha.v1."+step.Call, req, res)
		out = append(out, answer{res, err})
		for as, path := range step.Save {
			if err != nil {
				t.Fatalf("%s: %s: %v", name, step.Call, err)
			}
			at := res.ProtoReflect()
			fields := strings.Split(path, ".")
			for i, f := range fields {
				v := at.Get(at.Descriptor().Fields().ByName(protoreflect.Name(f)))
				if i == len(fields)-1 {
					saved[as] = v.String()
				} else {
					at = v.Message()
				}
			}
		}
	}
	return out
}

// spell turns what a file says into the JSON of a message.
func (w *world) spell(t testing.TB, v any, saved map[string]string) any {
	t.Helper()
	switch v := v.(type) {
	case string:
		name, ok := strings.CutPrefix(v, "$")
		if !ok {
			return v
		}
		if id, ok := strings.CutPrefix(name, "id:"); ok {
			return uuid.NewSHA1(uuid.NameSpaceOID, []byte(id)).String()
		}
		if saved[name] == "" {
			t.Fatalf("nothing is saved as %s", v)
		}
		return saved[name]
	case []any:
		for i := range v {
			v[i] = w.spell(t, v[i], saved)
		}
	case map[string]any:
		if relative, ok := v["$t"].(string); ok {
			if days, ok := strings.CutSuffix(relative, "d"); ok {
				hours := must(time.ParseDuration(days + "h"))(t)
				relative = (24 * hours).String()
			}
			ns, _ := v["ns"].(float64)
			return w.clock().Add(must(time.ParseDuration(relative))(t) + time.Duration(ns)).UTC().Format(time.RFC3339Nano)
		}
		if seconds, ok := v["seconds"].(float64); ok {
			nanos, _ := v["nanos"].(float64)
			return fmt.Sprintf("%d.%09ds", int64(seconds), int64(nanos))
		}
		for k := range v {
			v[k] = w.spell(t, v[k], saved)
		}
	}
	return v
}

// newRoster returns a server with the sample roster and no order.
func newRoster(t testing.TB) *world {
	t.Helper()
	w := newServer(t)
	w.fillRoster(t)
	return w
}

// TestCallsOfPhones plays visits as phones have sent them. All of them are taken.
func TestCallsOfPhones(t *testing.T) {
	stored := func(t *testing.T, w *world, a answer) *xunchav1.CheckIn {
		t.Helper()
		if a.err != nil {
			t.Fatal(a.err)
		}
		r := a.Message.(*xunchav1.SubmitCheckInResponse).Receipt
		return must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: r.SiteId, CheckInId: r.CheckInId}))(t).CheckIn
	}
	t.Run("Notes", func(t *testing.T) {
		w := newRoster(t)
		answers := w.play(t, "s03-notes-of-phones.json")
		for i, want := range []string{"门已锁。\n告示在。", "牌号12345", "一\n二"} {
			if got := stored(t, w, answers[i+1]).Note; got != want {
				t.Errorf("got the note %+q, want %+q", got, want)
			}
		}
	})
	t.Run("NoFix", func(t *testing.T) {
		w := newRoster(t)
		c := stored(t, w, w.play(t, "s04-no-fix-is-0-0.json")[1])
		for _, f := range c.Flags {
			if f == xunchav1.Flag_FLAG_AWAY_FROM_SITE {
				t.Errorf("got the flags %v of a phone that does not know where it is", c.Flags)
			}
		}
		if c.DistanceM != nil {
			t.Errorf("got the distance %v from 0,0", *c.DistanceM)
		}
	})
	// In whatever order two visits arrive, none of them is late.
	for _, name := range []string{"s20-newer-visit-arrives-first.json", "s20b-same-visits-in-order.json"} {
		t.Run(name, func(t *testing.T) {
			w := newRoster(t)
			answers := w.play(t, name)
			stored(t, w, answers[1])
			stored(t, w, answers[2])
			if answers[3].err != nil {
				t.Fatal(answers[3].err)
			}
			if row := answers[3].Message.(*xunchav1.GetCoverageResponse).Row; row.CheckIns != 2 || row.VisitedLate != 0 {
				t.Errorf("got %d check-ins and %d late, want 2 and none", row.CheckIns, row.VisitedLate)
			}
		})
	}
}

// TestLocationsRefuseNothing ensures that whatever a phone says of where it is, it loses
// no visit by it.
func TestLocationsRefuseNothing(t *testing.T) {
	w := newWorld(t)
	for i, l := range []*xunchav1.Location{
		{},
		{Latitude: 31.5, Longitude: 106.6, AccuracyM: 5}, // without a datum
		{Latitude: 31.5, Longitude: 106.6, Datum: 99},
		{Latitude: -180, Longitude: -180, Datum: xunchav1.Datum_DATUM_WGS84},
		{Latitude: 31.5, Longitude: 106.6, AccuracyM: -1, Datum: xunchav1.Datum_DATUM_WGS84},
		{Latitude: 31.5, Longitude: 106.6, AccuracyM: 1e9, Datum: xunchav1.Datum_DATUM_GCJ02},
		{Latitude: math.NaN(), Longitude: math.Inf(1), Datum: xunchav1.Datum_DATUM_WGS84},
	} {
		c := w.checkIn(i)
		c.Location = l
		r := w.submit(t, c)
		got := must(w.checkIns.GetCheckIn(t.Context(), &xunchav1.GetCheckInRequest{SiteId: r.SiteId, CheckInId: r.CheckInId}))(t).CheckIn
		if got.DistanceM != nil || len(r.Flags) > 0 {
			t.Errorf("%v: got the distance %v and the flags %v, want none", l, got.GetDistanceM(), r.Flags)
		}
	}
}
