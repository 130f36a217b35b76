package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"buf.build/go/protovalidate"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// TestMeanings has a row for every error that callers can see. The codes and
// reasons are a promise to clients, so they are written out once more here.
func TestMeanings(t *testing.T) {
	for _, test := range []struct {
		err    error
		code   codes.Code
		reason string
		retry  bool
	}{
		{inspections.ErrConflict, codes.AlreadyExists, "CHECK_IN_CONFLICT", false},
		{inspections.ErrNotFound, codes.NotFound, "CHECK_IN_NOT_FOUND", false},
		{inspections.ErrNoOrder, codes.FailedPrecondition, "NO_ORDER_IN_FORCE", false},
		{inspections.ErrBeforeOrder, codes.InvalidArgument, "CAPTURE_BEFORE_ORDER", false},
		{inspections.ErrFuture, codes.InvalidArgument, "CAPTURE_IN_FUTURE", false},
		{inspections.ErrNotRegistered, codes.FailedPrecondition, "SITE_NOT_REGISTERED", false},
		{photos.ErrUnknown, codes.NotFound, "PHOTO_NOT_FOUND", false},
		{photos.ErrRefused, codes.FailedPrecondition, "PHOTO_NOT_STORED", false},
		{photos.ErrMissing, codes.FailedPrecondition, "PHOTO_NOT_STORED", false},
		{photos.ErrPurged, codes.FailedPrecondition, "PHOTO_PURGED", false},
		{photos.ErrLost, codes.DataLoss, "PHOTO_LOST", false},
		{photos.ErrOffset, codes.OutOfRange, "PHOTO_OFFSET", false},
		{photos.ErrSize, codes.InvalidArgument, "PHOTO_SIZE_MISMATCH", false},
		{photos.ErrHash, codes.InvalidArgument, "PHOTO_HASH_MISMATCH", false},
		{photos.ErrType, codes.InvalidArgument, "PHOTO_TYPE_MISMATCH", false},
		{picture.ErrNotPicture, codes.InvalidArgument, "NOT_A_PICTURE", false},
		{picture.ErrTooLarge, codes.InvalidArgument, "PICTURE_TOO_LARGE", false},
		{errThumbnail, codes.FailedPrecondition, "NO_THUMBNAIL", false},
		{sites.ErrSiteStruckOff, codes.FailedPrecondition, "SITE_NOT_REGISTERED", false},
		{sites.ErrSiteUnknown, codes.NotFound, "SITE_NOT_FOUND", false},
		{sites.ErrDivisionUnknown, codes.NotFound, "DIVISION_NOT_FOUND", false},
		{sites.ErrDivisionEnded, codes.FailedPrecondition, "DIVISION_ENDED", false},
		{sites.ErrNotVillage, codes.InvalidArgument, "NOT_A_VILLAGE", false},
		{sites.ErrRegistrationTaken, codes.AlreadyExists, "REGISTRATION_NO_TAKEN", false},
		{sites.ErrStale, codes.Aborted, "STALE_ETAG", false},
		{sites.ErrOrderUnknown, codes.NotFound, "CLOSURE_ORDER_NOT_FOUND", false},
		{sites.ErrOrderNumberTaken, codes.AlreadyExists, "CLOSURE_ORDER_NUMBER_TAKEN", false},
		{sites.ErrOrderTooLong, codes.InvalidArgument, "CLOSURE_ORDER_TOO_LONG", false},
		{sites.ErrOrderEnded, codes.FailedPrecondition, "CLOSURE_ORDER_ENDED", false},
		{sites.ErrImportRejected, codes.InvalidArgument, "IMPORT_REJECTED", false},
		{sites.ErrInvalid, codes.InvalidArgument, "INVALID_FIELD", false},
		{coverage.ErrWindow, codes.InvalidArgument, "INVALID_WINDOW", false},
		{coverage.ErrWindowTooLong, codes.InvalidArgument, "WINDOW_TOO_LONG", false},
		{coverage.ErrTooManyRows, codes.InvalidArgument, "REPORT_TOO_LARGE", false},
		{errReportTooLarge, codes.InvalidArgument, "REPORT_TOO_LARGE", false},
		{errPageToken, codes.InvalidArgument, "INVALID_PAGE_TOKEN", false},
		{sites.ErrMissing, codes.InvalidArgument, "MISSING_FIELD", false},
		{sites.ErrOutOfRange, codes.InvalidArgument, "OUT_OF_RANGE", false},
		{sites.ErrTooLong, codes.InvalidArgument, "TOO_LONG", false},
		{errMalformedID, codes.InvalidArgument, "MALFORMED_ID", false},
		{accounts.ErrToken, codes.Unauthenticated, "TOKEN_INVALID", false},
		{accounts.ErrSignIn, codes.Unauthenticated, "SIGN_IN_FAILED", false},
		{accounts.ErrThrottled, codes.ResourceExhausted, "SIGN_IN_THROTTLED", true},
		{accounts.ErrBusy, codes.ResourceExhausted, "SERVER_BUSY", true},
		{accounts.ErrLastAdministrator, codes.FailedPrecondition, "LAST_ADMINISTRATOR", false},
		{errLimited, codes.ResourceExhausted, "RATE_LIMITED", true},
		{errCrowded, codes.ResourceExhausted, "RATE_LIMITED", true},
		{accounts.ErrIdentity, codes.PermissionDenied, "IDENTITY_UNUSABLE", false},
		{accounts.ErrProvider, codes.Unavailable, "IDENTITY_PROVIDER_UNAVAILABLE", true},
		{accounts.ErrKeptElsewhere, codes.FailedPrecondition, "ACCOUNT_KEPT_ELSEWHERE", false},
		{accounts.ErrNoPasswords, codes.FailedPrecondition, "NO_PASSWORDS", false},
		{accounts.ErrPasswordChange, codes.FailedPrecondition, "PASSWORD_CHANGE_REQUIRED", false},
		{accounts.ErrWeakPassword, codes.InvalidArgument, "WEAK_PASSWORD", false},
		{accounts.ErrUnknown, codes.NotFound, "ACCOUNT_NOT_FOUND", false},
		{accounts.ErrUsernameTaken, codes.AlreadyExists, "USERNAME_TAKEN", false},
		{accounts.ErrDisabled, codes.FailedPrecondition, "ACCOUNT_DISABLED", false},
		{errRole, codes.PermissionDenied, "ROLE_NOT_ALLOWED", false},
		{sites.ErrChangeUnknown, codes.NotFound, "CHANGE_NOT_FOUND", false},
		{sites.ErrRestedOn, codes.FailedPrecondition, "CHANGE_RESTED_ON", false},
		{sites.ErrNotRevocable, codes.FailedPrecondition, "CHANGE_NOT_REVOCABLE", false},
		{ledger.ErrRequestConflict, codes.AlreadyExists, "REQUEST_CONFLICT", false},
		{inspections.ErrPhotoFormat, codes.InvalidArgument, "PHOTO_FORMAT_UNSUPPORTED", false},
		{inspections.ErrPhotoTooLarge, codes.InvalidArgument, "PHOTO_TOO_LARGE", false},
		{inspections.ErrTooManyPhotos, codes.InvalidArgument, "TOO_MANY_PHOTOS", false},
		{errNotWhole, codes.PermissionDenied, "ROLE_NOT_ALLOWED", false},
		{errChecking, codes.ResourceExhausted, "RATE_LIMITED", true},
		{errNoAccounts, codes.FailedPrecondition, "NO_ACCOUNTS", false},
		{errUTF8, codes.InvalidArgument, "INVALID_UTF8", false},
		{errMalformed, codes.InvalidArgument, "MALFORMED_REQUEST", false},
		{errTooLarge, codes.ResourceExhausted, "REQUEST_TOO_LARGE", false},
		{errUnimplemented, codes.Unimplemented, "UNIMPLEMENTED", false},
		{ledger.ErrAltered, codes.Unavailable, "HISTORY_ALTERED", true},
		{ledger.ErrBadRecord, codes.Unavailable, "HISTORY_ALTERED", true},
		{ledger.ErrBroken, codes.Unavailable, "HISTORY_ALTERED", true},
		{sites.ErrRowsUnknown, codes.Unavailable, "HISTORY_ALTERED", true},
		{ledger.ErrMoved, codes.Aborted, "CONTENTION", true},
		{ledger.ErrFull, codes.ResourceExhausted, "STORE_FULL", true},
		{ledger.ErrUnavailable, codes.Unavailable, "STORE_UNAVAILABLE", true},
		{errStarting, codes.Unavailable, "STORE_UNAVAILABLE", true},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", true},
		{errAged, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", true},
		{errSilent, codes.DeadlineExceeded, "DEADLINE_EXCEEDED", true},
		{errImportsBusy, codes.ResourceExhausted, "SERVER_BUSY", true},
		{context.Canceled, codes.Canceled, "CANCELLED", false},
		{errors.New("disk on fire"), codes.Internal, "INTERNAL", false},
	} {
		t.Run(test.err.Error(), func(t *testing.T) {
			const secret = "/var/lib/secret: errno 5"
			err := &sites.FieldError{Field: "some.field", Err: fmt.Errorf("%s: %w", secret, test.err)}
			st := toStatus(t.Context(), fmt.Errorf("wrapped: %w", err), "id-1")
			field := "some.field"
			if meaningOf(test.err).private {
				field = ""
			}
			wantStatus(t, st.Err(), test.code, test.reason, field)
			retry := false
			for _, d := range st.Details() {
				if r, ok := d.(*errdetails.RetryInfo); ok {
					retry = r.RetryDelay.AsDuration() > 0
				}
			}
			if retry != test.retry {
				t.Errorf("RetryInfo: got %v, want %v", retry, test.retry)
			}
			if meaningOf(test.err).private && strings.Contains(st.Proto().String(), secret) {
				t.Errorf("%v shows what the store said: %v", test.err, st.Proto())
			}
		})
	}
	t.Run("EveryRowIsTested", func(t *testing.T) {
		seen := map[xunchav1.ErrorReason]bool{xunchav1.ErrorReason_ERROR_REASON_UNSPECIFIED: true, internal.reason: true}
		for _, m := range meanings {
			seen[m.reason] = true
			if m.en == "" || m.zh == "" {
				t.Errorf("%v has no sentence for people", m.err)
			}
		}
		for n, name := range xunchav1.ErrorReason_name {
			if !seen[xunchav1.ErrorReason(n)] {
				t.Errorf("no error has the reason %s", name)
			}
		}
	})
}

func TestLanguage(t *testing.T) {
	for accept, want := range map[string]string{
		"": "en", "zh-CN": "zh-CN", "zh": "zh-CN", "en-GB,zh": "en", "fr, zh-Hans;q=0.8": "zh-CN", "fr": "en",
		"en;q=0.5, zh;q=0.9": "zh-CN", "zh; q=0.2,en": "en", "zh;q=0": "en", "zh;q=x": "en",
		"zh-TW": "zh-CN", "zh-Hant": "zh-CN", "zh-HK,en;q=0.9": "zh-CN", "en,zh-HK;q=0.9": "en",
		"en-GB;q=0.1": "en", "en-GB;q=0.1, zh;q=0.2": "zh-CN", "en;q=0, zh;q=0.1": "zh-CN", "ZH-cn": "zh-CN",
		"*": "en", "*, zh;q=0.5": "zh-CN", "ja,*;q=0.1": "en", ";;;": "en", "zh,,": "zh-CN", "\x00": "en",
	} {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("accept-language", accept))
		if got := localized(ctx, internal.words()).Locale; got != want {
			t.Errorf("accept-language %q: got %s, want %s", accept, got, want)
		}
	}
	// A header that comes in two parts is one.
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("accept-language", "en;q=0.1", "accept-language", "zh"))
	if got := localized(ctx, internal.words()).Locale; got != "zh-CN" {
		t.Errorf("two headers: got %s, want zh-CN", got)
	}
	// Of a long one the first languages count.
	ctx = metadata.NewIncomingContext(t.Context(), metadata.Pairs("accept-language", strings.Repeat("zh-CN,", 50)+strings.Repeat("x", 5000)))
	if got := localized(ctx, internal.words()).Locale; got != "zh-CN" {
		t.Errorf("a long header: got %s, want zh-CN", got)
	}
}

// TestManyLanguages ensures that whoever sends 30 KiB of languages cannot let a refusal cost
// much: each of 10,000 was read, for each field that was wrong.
func TestManyLanguages(t *testing.T) {
	cost := func(languages string) float64 {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("accept-language", languages))
		var many []error
		for range maxViolations {
			many = append(many, &sites.FieldError{Field: "f", Err: errUTF8})
		}
		return testing.AllocsPerRun(3, func() { toStatus(ctx, sites.JoinFaults(many...), "") })
	}
	if one, many := cost("zh"), cost(strings.Repeat("zh,", 10_000)); many > 2*one {
		t.Errorf("a refusal allocates %v times, and with one language %v times", many, one)
	}
}

// rawCodec sends bytes as they are.
type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func TestUnreadableRequests(t *testing.T) {
	w := newWorld(t)
	good := must(proto.Marshal(&xunchav1.SubmitCheckInRequest{CheckIn: w.checkIn(0)}))(t)
	for _, test := range []struct {
		name, reason, field string
		raw                 []byte
	}{
		{"TextNotUTF8", "INVALID_UTF8", "check_in.note", bytes.Replace(good, []byte("门口"), []byte("\xff\xfe\xfd\xff\xfe\xfd"), 1)},
		{"FieldLikeAMark", "MISSING_FIELD", "check_in", append(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.BytesType), "\x04evil"...)},
		{"CutOff", "MALFORMED_REQUEST", "", good[:len(good)-3]},
		{"Noise", "MALFORMED_REQUEST", "", []byte("\xff\xff\xff\xff")},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := w.conn.Invoke(t.Context(), xunchav1.InspectionService_SubmitCheckIn_FullMethodName, test.raw,
				new(xunchav1.SubmitCheckInResponse), grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2("proto")}))
			wantStatus(t, err, codes.InvalidArgument, test.reason, test.field)
		})
	}
}

// TestTransportErrors ensures that what goes wrong before a method is reached
// has a reason and a line in the log, too.
func TestTransportErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // which takes requests of 1 MiB
	submit := func(note int, options ...grpc.CallOption) error {
		c := w.checkIn(0)
		c.Note = strings.Repeat("x", note)
		_, err := w.checkIns.SubmitCheckIn(t.Context(), &xunchav1.SubmitCheckInRequest{CheckIn: c}, options...)
		return err
	}
	stream := func(name string) error {
		_, err := w.importSites(t, &xunchav1.ImportHeader{}, &xunchav1.ImportSitesRequest{Part: &xunchav1.ImportSitesRequest_Row{Row: &xunchav1.SiteRow{Name: name}}})
		return err
	}
	invoke := func(method string) error {
		return w.conn.Invoke(t.Context(), method, &xunchav1.GetSiteRequest{}, &xunchav1.GetSiteResponse{})
	}
	for _, test := range []struct {
		name   string
		call   func() error
		code   codes.Code
		reason string
	}{
		{"UnknownMethod", func() error { return invoke("/xuncha.v1.RosterService/Secret") }, codes.Unimplemented, "UNIMPLEMENTED"},
		{"UnknownService", func() error { return invoke("/secret.v1.Secret/Get") }, codes.Unimplemented, "UNIMPLEMENTED"},
		{"TooLarge", func() error { return submit(1 << 20) }, codes.ResourceExhausted, "REQUEST_TOO_LARGE"},
		{"TooLargeUnpacked", func() error { return submit(1<<20, grpc.UseCompressor("gzip")) }, codes.ResourceExhausted, "REQUEST_TOO_LARGE"},
		{"FarTooLargeUnpacked", func() error { return submit(64<<20, grpc.UseCompressor("gzip")) }, codes.ResourceExhausted, "REQUEST_TOO_LARGE"},
		{"TooLargeInAStream", func() error { return stream(strings.Repeat("x", 1<<20)) }, codes.ResourceExhausted, "REQUEST_TOO_LARGE"},
	} {
		t.Run(test.name, func(t *testing.T) {
			lines := strings.Count(w.log.String(), `"msg":"call"`)
			wantStatus(t, test.call(), test.code, test.reason, "")
			if got := strings.Count(w.log.String(), `"msg":"call"`); got != lines+1 {
				t.Errorf("the log has %d lines more, want one", got-lines)
			}
		})
	}
	if strings.Contains(strings.ToLower(w.log.String()), "secret") {
		t.Error("the log has the name that a caller made up")
	}
	t.Run("Compressed", func(t *testing.T) {
		if err := submit(500, grpc.UseCompressor("gzip")); err != nil {
			t.Errorf("a compressed request is refused: %v", err)
		}
	})
}

// FuzzUnreadable ensures that no bytes bring the codec down, and that what it
// takes for a message is one, and nothing else.
func FuzzUnreadable(f *testing.F) {
	f.Add([]byte("\x0a\x03\x4a\x01\xff"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(xunchav1.SubmitCheckInRequest)
		err := decode(mem.BufferSlice{mem.SliceBuffer(raw)}, m)
		if (proto.Unmarshal(raw, new(xunchav1.SubmitCheckInRequest)) != nil) != (err != nil) {
			t.Errorf("%x: got %v", raw, err)
		}
	})
}

func FuzzReadPageToken(f *testing.F) {
	token, err := pageToken(inspections.HistoryCursor{Site: 5}, "q")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token, "q")
	f.Fuzz(func(t *testing.T, token, query string) {
		var cursor inspections.HistoryCursor
		if readPageToken(token, &cursor, query) != nil || token == "" {
			return
		}
		again, err := pageToken(cursor, query)
		var back inspections.HistoryCursor
		if err != nil || readPageToken(again, &back, query) != nil || back != cursor {
			t.Errorf("%q gives %+v, which does not come back", token, cursor)
		}
	})
}

// TestPanic ensures that a fault in one call ends that call alone, and that
// the log has its stack.
func TestPanic(t *testing.T) {
	var log syncBuffer
	c := &calls{config: &Config{}, lines: NewCallLog(slog.New(slog.NewJSONHandler(&log, nil))), validator: protovalidate.GlobalValidator, newID: func() string { return "id-7" }, now: (&world{}).clock}
	_, err := c.unary(t.Context(), "/m", received, func(context.Context, func(any) error) (any, error) { panic("oh no") })
	wantStatus(t, err, codes.Internal, "INTERNAL", "")
	if strings.Contains(status.Convert(err).Message(), "oh no") {
		t.Errorf("the caller sees the fault: %v", err)
	}
	if got := log.String(); !strings.Contains(got, "oh no") || !strings.Contains(got, "status_test.go") || !strings.Contains(got, "id-7") {
		t.Errorf("the log lacks the fault, its stack or the request id: %s", got)
	}
}

// TestCauses ensures that the log has the cause of what callers see only that it
// happened.
func TestCauses(t *testing.T) {
	const cause = "write /data: i/o error"
	for _, test := range []struct {
		err  error
		want bool
	}{
		{ledger.ErrUnavailable, true},
		{ledger.ErrFull, true},
		{ledger.ErrMoved, true},
		{ledger.ErrBroken, true},
		{context.Canceled, false},
		{context.DeadlineExceeded, false},
		{sites.ErrSiteUnknown, false},
	} {
		var log syncBuffer
		c := &calls{lines: NewCallLog(slog.New(slog.NewJSONHandler(&log, nil))), newID: func() string { return "id-7" }, now: (&world{}).clock}
		err := c.observe(t.Context(), "/m", func(*observed) error { return fmt.Errorf("%s: %w", cause, test.err) })
		if got := strings.Contains(log.String(), cause); got != test.want {
			t.Errorf("%v: the log has the cause: %v, want %v", test.err, got, test.want)
		}
		if test.want && strings.Contains(status.Convert(err).Message(), cause) {
			t.Errorf("%v: the caller sees the cause: %v", test.err, err)
		}
	}
}

// TestLogLine ensures that a line has what an operator needs and nothing of
// what was said.
func TestLogLine(t *testing.T) {
	w := newWorld(t)
	c := w.checkIn(0)
	c.Location = &xunchav1.Location{Latitude: 30.512345, Longitude: 106.612345, Datum: xunchav1.Datum_DATUM_GCJ02}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-request-id", "from-the-phone-1")
	must(w.checkIns.SubmitCheckIn(ctx, &xunchav1.SubmitCheckInRequest{CheckIn: c}))(t)
	var line string
	for l := range strings.Lines(w.log.String()) {
		if strings.Contains(l, "from-the-phone-1") {
			line = l
		}
	}
	for _, want := range []string{`"method":"/xuncha.v1.InspectionService/SubmitCheckIn"`, `"code":"OK"`, `"duration":`} {
		if !strings.Contains(line, want) {
			t.Errorf("the line lacks %s: %s", want, line)
		}
	}
	for _, never := range []string{c.Note, "12345", c.SiteId, c.CheckInId, "bufconn"} {
		if strings.Contains(w.log.String(), never) {
			t.Errorf("the log has %q", never)
		}
	}
}

// TestRequestID ensures that only what is plainly an id is taken over from a
// caller.
func TestRequestID(t *testing.T) {
	c := &calls{newID: func() string { return "new" }}
	for _, id := range []string{"a", "from-the-phone_1.2", strings.Repeat("x", 64), "", strings.Repeat("x", 65), "a b", "a\x1b[2J", "张三"} {
		want := "new"
		if len(id) > 0 && len(id) <= 64 && !strings.ContainsAny(id, " \x1b张") {
			want = id
		}
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("x-request-id", id))
		if got := c.requestID(ctx); got != want {
			t.Errorf("x-request-id %q: got %q, want %q", id, got, want)
		}
	}
}

func TestStandardServices(t *testing.T) {
	w := newServer(t)
	for _, service := range []string{"", "xuncha.v1.RosterService", "xuncha.v1.InspectionService", "xuncha.v1.CoverageService", "xuncha.v1.AuditService"} {
		answer := must(healthv1.NewHealthClient(w.conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service}))(t)
		if answer.Status != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("%q is %v", service, answer.Status)
		}
	}
	stream := must(reflectionv1.NewServerReflectionClient(w.conn).ServerReflectionInfo(t.Context()))(t)
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range must(stream.Recv())(t).GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}
	if !strings.Contains(strings.Join(names, " "), "xuncha.v1.AuditService") {
		t.Errorf("reflection lists %v", names)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("got %v, want the end of the stream", err)
	}
}
