package rpc

import (
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"xuncha/server/internal/accounts"
)

// TestReflection holds who is told what methods there are.
func TestReflection(t *testing.T) {
	const nobody, noAccounts = "nobody", "without accounts"
	for _, test := range []struct {
		mode Reflection
		want map[string]codes.Code // by who asks
	}{
		{"", map[string]codes.Code{nobody: codes.OK, "root": codes.OK, noAccounts: codes.OK}},
		{ReflectionOpen, map[string]codes.Code{nobody: codes.OK, "root": codes.OK, noAccounts: codes.OK}},
		{ReflectionToken, map[string]codes.Code{nobody: codes.Unauthenticated, "root": codes.OK, noAccounts: codes.OK}},
		{ReflectionOff, map[string]codes.Code{nobody: codes.Unimplemented, "root": codes.Unimplemented, noAccounts: codes.Unimplemented}},
	} {
		mode := func(c *Config) { c.Reflection = test.mode }
		open, closed := newWorldWith(t, mode), newWorldWith(t, mode)
		closed.create(t, "root", accounts.Admin, "511600")
		for who, want := range test.want {
			w, ctx := closed, t.Context()
			switch who {
			case "root":
				ctx = with(ctx, w.signIn(t, "root"))
			case noAccounts:
				w = open
			}
			stream := must(reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(ctx))(t)
			_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}) // Recv says why
			if _, err := stream.Recv(); status.Code(err) != want {
				t.Errorf("%q, %s: got %v, want %v", test.mode, who, err, want)
			}
		}
	}
}

// TestReflectionEnds ensures that a stream of reflection ends with the account that it is of.
func TestReflectionEnds(t *testing.T) {
	w := newWorldWith(t, func(c *Config) { c.Reflection = ReflectionToken })
	w.create(t, "root", accounts.Admin, "511600")
	head := w.create(t, "head", accounts.Head, "511600")
	stream := must(reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(with(t.Context(), w.signIn(t, "head"))))(t)
	ask := func() error {
		_ = stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
		_, err := stream.Recv()
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	must(w.accounts.Disable(t.Context(), accounts.By{Account: "root"}, head.ID))(t)
	if err := ask(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("after the account was disabled: got %v, want %v", err, codes.Unauthenticated)
	}
}

// A question is a stream of reflection with questions, which keeps the answers.
type question struct {
	grpc.ServerStream
	asked   []*reflectionv1.ServerReflectionRequest
	answers []*reflectionv1.ServerReflectionResponse
}

func (q *question) Recv() (*reflectionv1.ServerReflectionRequest, error) {
	if len(q.asked) == 0 {
		return nil, io.EOF
	}
	defer func() { q.asked = q.asked[1:] }()
	return q.asked[0], nil
}

func (q *question) Send(m *reflectionv1.ServerReflectionResponse) error {
	q.answers = append(q.answers, m)
	return nil
}

// TestReflectionAnswersAsGRPC holds that files that are written once say what grpc says that
// writes them for each question, and that they are written once.
func TestReflectionAnswersAsGRPC(t *testing.T) {
	own := reflection.NewServerV1(reflection.ServerOptions{Services: grpc.NewServer()})
	r := &reflector{ServerReflectionServer: own}
	symbol := func(name string) *reflectionv1.ServerReflectionRequest {
		return &reflectionv1.ServerReflectionRequest{Host: "h", MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}}
	}
	file := func(name string) *reflectionv1.ServerReflectionRequest {
		return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: name}}
	}
	extension := func(number int32) *reflectionv1.ServerReflectionRequest {
		return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingExtension{
			FileContainingExtension: &reflectionv1.ExtensionRequest{ContainingType: "google.protobuf.FieldOptions", ExtensionNumber: number},
		}}
	}
	ask := func(s reflectionv1.ServerReflectionServer) []*reflectionv1.ServerReflectionResponse {
		q := &question{asked: []*reflectionv1.ServerReflectionRequest{
			symbol("xuncha.v1.RosterService"), symbol("xuncha.v1.CheckIn"), symbol("xuncha.v1.CheckIn.note"), symbol("xuncha.v1.Nothing"), symbol(""),
			file("xuncha/v1/photo_service.proto"), file("xuncha/v1/photo_service.proto"), file("nothing.proto"), symbol("xuncha.v1.RosterService"),
			extension(1159), extension(7), {MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}},
			{MessageRequest: &reflectionv1.ServerReflectionRequest_AllExtensionNumbersOfType{AllExtensionNumbersOfType: "google.protobuf.FieldOptions"}},
		}}
		if err := s.ServerReflectionInfo(q); err != nil {
			t.Fatal(err)
		}
		return q.answers
	}
	sum := func(answers []*reflectionv1.ServerReflectionResponse) (out []string) {
		for _, a := range answers {
			files := map[string]bool{}
			for _, raw := range a.GetFileDescriptorResponse().GetFileDescriptorProto() {
				var f descriptorpb.FileDescriptorProto
				if err := proto.Unmarshal(raw, &f); err != nil {
					t.Fatal(err)
				}
				files[prototext.Format(&f)] = true
			}
			out = append(out, strings.Join(slices.Sorted(maps.Keys(files)), "\n")+a.GetErrorResponse().String()+a.GetListServicesResponse().String()+
				a.GetAllExtensionNumbersResponse().String()+a.OriginalRequest.String()+a.ValidHost)
		}
		return out
	}
	first := ask(r)
	got, want := sum(first), sum(ask(own))
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("answer %d: got another one than grpc's own", i)
		}
	}
	again := ask(r)
	if a, b := first[0].GetFileDescriptorResponse().FileDescriptorProto[0], again[0].GetFileDescriptorResponse().FileDescriptorProto[0]; &a[0] != &b[0] {
		t.Error("a file was written twice")
	}
}

// TestReflectionOfBothVersions ensures that older clients are answered, and that an answer of
// many bytes counts as many calls.
func TestReflectionOfBothVersions(t *testing.T) {
	w := newServer(t, func(c *Config) { c.CallsPerAddress, c.BehindProxy = 10, true })
	for i, version := range []string{"v1", "v1alpha"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "203.0.113."+itoa(i))
		stream := must(w.conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo"))(t)
		answers, size := 0, 0
		var err error
		for ; err == nil; answers++ {
			_ = stream.SendMsg(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: "buf/validate/validate.proto"}})
			var answer reflectionv1.ServerReflectionResponse
			if err = stream.RecvMsg(&answer); err == nil {
				size += proto.Size(&answer)
			}
		}
		wantStatus(t, err, codes.ResourceExhausted, "RATE_LIMITED", "")
		if calls := 10 * burstSeconds; size < (calls-answers)*answerCost || answers > calls/2 {
			t.Errorf("%s: %d answers of %d bytes in all for %d calls", version, answers, size, calls)
		}
	}
}
