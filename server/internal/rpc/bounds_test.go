package rpc

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// protoFiles is where the API's .proto files lie.
const protoFiles = "../../../proto/xuncha/v1"

// aCode is the form of a division code.
const aCode = "^([0-9]{6}|[0-9]{9}|[0-9]{12})$"

// bounds are those of the rules of buf.validate, by field and rule, with the Go
// value that says the same. A field of which all messages have the same bound is
// under "*".
var bounds = map[string]any{
	"CheckIn.cancelled_event_count int32.gte":  0,
	"CheckIn.cancelled_event_count int32.lte":  inspections.MaxCancelledEvents,
	"CheckIn.dispersed_people_count int32.gte": 0,
	"CheckIn.dispersed_people_count int32.lte": inspections.MaxDispersedPeople,
	"CheckIn.note string.max_len":              inspections.MaxSentNote,
	"CheckIn.photos repeated.max_items":        inspections.MaxDeclaredPhotos,
	"Photo.content_type string.max_len":        maxContentType,
	"*.sha256 bytes.len":                       len(inspections.Digest{}),

	"Site.registration_no string.max_len":                    sites.MaxRegistrationNo,
	"Site.name string.max_len":                               sites.MaxName,
	"Site.address string.max_len":                            sites.MaxAddress,
	"UpdateSiteRequest.name string.max_len":                  sites.MaxName,
	"UpdateSiteRequest.address string.max_len":               sites.MaxAddress,
	"MoveSiteRequest.address string.max_len":                 sites.MaxAddress,
	"ImportHeader.source string.max_len":                     sites.MaxName,
	"ClosureOrder.number string.max_len":                     sites.MaxRegistrationNo,
	"ClosureOrder.title string.max_len":                      sites.MaxOrderText,
	"ClosureOrder.issuing_authority string.max_len":          sites.MaxOrderText,
	"ClosureOrder.legal_basis string.max_len":                sites.MaxOrderText,
	"ClosureOrder.division_codes repeated.max_items":         sites.MaxOrderDivisions,
	"GetCoverageRequest.depth int32.gte":                     0,
	"GetCoverageRequest.depth int32.lte":                     len(sites.Levels) - 1,
	"Account.username string.max_len":                        accounts.MaxIdentityUsername,
	"Account.display_name string.max_len":                    accounts.MaxDisplayName,
	"Account.division_codes repeated.max_items":              accounts.MaxDivisions,
	"UpdateAccountRequest.display_name string.max_len":       accounts.MaxDisplayName,
	"UpdateAccountRequest.division_codes repeated.max_items": accounts.MaxDivisions,
	"ListAccessesRequest.account string.max_len":             accounts.MaxIdentityUsername,
	"LoginRequest.password string.max_len":                   accounts.MaxPassword,
	"LoginRequest.new_password string.max_len":               accounts.MaxPassword,
	"LoginRequest.device_name string.max_len":                accounts.MaxSentDeviceName,
	"LoginRequest.device_token string.max_bytes":             accounts.MaxRefreshToken,
	"CreateAccountRequest.password string.max_len":           accounts.MaxPassword,
	"ChangePasswordRequest.old_password string.max_len":      accounts.MaxPassword,
	"ChangePasswordRequest.new_password string.max_len":      accounts.MaxPassword,
	"RefreshTokenRequest.refresh_token string.max_len":       accounts.MaxRefreshToken,

	// These stand in the API alone: the domain has no such value, or nature has
	// set the bound.
	"*.latitude double.gte":                                     -90,
	"*.latitude double.lte":                                     90,
	"*.longitude double.gte":                                    -180,
	"*.longitude double.lte":                                    180,
	"*.page_size int32.gte":                                     0,
	"*.page_token string.max_len":                               1024,
	"*.etag string.max_len":                                     64,
	"PhotoUploadSpec.offset int64.gte":                          0,
	"Site.division_code string.max_len":                         12,
	"ImportHeader.effective_date string.max_len":                64,
	"LoginRequest.username string.min_len":                      1,
	"LoginRequest.username string.max_len":                      64, // of which none that is too long is anyone's
	"LoginRequest.password string.min_len":                      1,
	"ChangePasswordRequest.old_password string.min_len":         1,
	"ChangePasswordRequest.new_password string.min_len":         1,
	"RefreshTokenRequest.refresh_token string.min_len":          1,
	"ListCheckInsRequest.flag enum.in":                          []int32{0, 1, 2},
	"CheckIn.finding enum.not_in":                               []int32{0},
	"RevokeChangeRequest.revision int64.gte":                    0,
	"RevokeChangeRequest.reason string.max_len":                 sites.MaxReason,
	"DivisionRow.* string.max_bytes":                            4096,
	"SiteRow.* string.max_bytes":                                4096,
	"ClosureOrder.division_codes repeated.items.string.pattern": aCode,
	"GetCoverageRequest.division_code string.pattern":           aCode,
	"ListDueSitesRequest.division_code string.pattern":          aCode,
	"GetDivisionRequest.code string.pattern":                    aCode,
	"ListAccessesRequest.division_code string.pattern":          aCode,
	"ListCheckInsRequest.division_code string.pattern":          strings.Replace(aCode, ")$", ")?$", 1),
	"ListDivisionsRequest.parent_code string.pattern":           strings.Replace(aCode, ")$", ")?$", 1),
	"ListSitesRequest.division_code string.pattern":             strings.Replace(aCode, ")$", ")?$", 1),
	"MoveSiteRequest.division_code string.pattern":              "^[0-9]{12}$",
}

// eachBound calls f with every bound in the rules below the path: numbers, texts
// and lists of them. What is only on or off is no bound.
func eachBound(path string, rules protoreflect.Message, f func(rule, value string)) {
	rules.Range(func(d protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := strings.TrimPrefix(path+"."+string(d.Name()), ".")
		switch {
		case d.IsList() && d.Kind() != protoreflect.MessageKind:
			var all []string
			for i := range v.List().Len() {
				all = append(all, fmt.Sprint(v.List().Get(i).Interface()))
			}
			f(at, fmt.Sprint(all))
		case d.Kind() == protoreflect.MessageKind && !d.IsList():
			eachBound(at, v.Message(), f)
		case d.Kind() != protoreflect.BoolKind && d.Kind() != protoreflect.EnumKind:
			f(at, fmt.Sprint(v.Interface()))
		}
		return true
	})
}

// TestBounds holds that a bound that stands in a .proto and in Go is the same in
// both, and that no bound of a .proto is unknown here.
func TestBounds(t *testing.T) {
	unseen := maps.Clone(bounds)
	protoregistry.GlobalFiles.RangeFilesByPackage("xuncha.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Messages().Len() {
			m := file.Messages().Get(i)
			for j := range m.Fields().Len() {
				d := m.Fields().Get(j)
				rules, _ := proto.GetExtension(d.Options(), validate.E_Field).(*validate.FieldRules)
				if rules == nil {
					continue
				}
				eachBound("", rules.ProtoReflect(), func(rule, value string) {
					for _, key := range []string{string(m.Name()) + "." + string(d.Name()), "*." + string(d.Name()), string(m.Name()) + ".*"} {
						key += " " + rule
						want, ok := bounds[key]
						if !ok {
							continue
						}
						delete(unseen, key)
						if value != fmt.Sprint(want) {
							t.Errorf("%s.%s: %s is %s in the .proto and %v in Go", m.Name(), d.Name(), rule, value, want)
						}
						return
					}
					t.Errorf("%s.%s: the bound %s of %s is unknown to this test", m.Name(), d.Name(), rule, value)
				})
			}
		}
		return true
	})
	for key := range unseen {
		t.Errorf("no .proto has %s", key)
	}
}

// TestPageSizes holds that each list has as many items on a page as its .proto
// says.
func TestPageSizes(t *testing.T) {
	said := regexp.MustCompile(`// At most this many[^;]*; 0 means ([\d,]+), and more than ([\d,]+) means ([\d,]+)\.\s+int32 page_size`)
	number := func(s string) int32 {
		n, err := strconv.Atoi(strings.ReplaceAll(s, ",", ""))
		if err != nil {
			t.Fatal(err)
		}
		return int32(n)
	}
	unseen := maps.Clone(pageSizes)
	for file, text := range protoTexts(t) {
		lists := 0
		for message := range strings.SplitSeq(text, "\nmessage ") {
			if !strings.Contains(message, "int32 page_size") {
				continue
			}
			lists++
			name, _, _ := strings.Cut(message, " {")
			request := protoreflect.Name(name)
			m := said.FindStringSubmatch(message)
			if m == nil {
				t.Errorf("%s does not say how many items it asks for", request)
				continue
			}
			got, ok := pageSizes[request]
			if !ok || got.standard != number(m[1]) || got.most != number(m[2]) || m[2] != m[3] {
				t.Errorf("%s: got %v, and the .proto says %s and %s", request, got, m[1], m[2])
			}
			delete(unseen, request)
		}
		if n := strings.Count(text, "int32 page_size"); n != lists {
			t.Errorf("%s has %d lists, of which %d were found", file, n, lists)
		}
	}
	for request := range unseen {
		t.Errorf("no .proto has the list of %s", request)
	}
	for asked, want := range map[int32]int{0: 100, 7: 7, 1000: 1000, 1001: 1000} {
		if got := pageSize(&xunchav1.ListSitesRequest{PageSize: asked}); got != want {
			t.Errorf("a page of %d sites has %d, want %d", asked, got, want)
		}
	}
}

// protoTexts returns the API's .proto files by name.
func protoTexts(t *testing.T) map[string]string {
	t.Helper()
	names := must(filepath.Glob(protoFiles + "/*.proto"))(t)
	if len(names) == 0 {
		t.Fatal("there are no .proto files")
	}
	out := map[string]string{}
	for _, name := range names {
		out[filepath.Base(name)] = string(must(os.ReadFile(name))(t))
	}
	return out
}

// grouped writes a number with a comma before each three digits.
func grouped(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}

// TestSaidBounds holds that what the API's comments and the sentences for people
// say of a bound is what the rule in Go does.
func TestSaidBounds(t *testing.T) {
	days := func(d time.Duration) int { return int(d / (24 * time.Hour)) }
	files := protoTexts(t)
	// Where a comment breaks its lines does not matter.
	for name, text := range files {
		files[name] = strings.Join(strings.Fields(strings.ReplaceAll(text, "//", " ")), " ")
	}
	for _, test := range []struct{ file, want string }{
		{"check_in.proto", fmt.Sprintf("At most %d characters", inspections.MaxNote)},
		{"check_in.proto", fmt.Sprintf("in metres, 0 to %d,000;", int(inspections.MaxAccuracy/1000))},
		{"closure_order.proto", fmt.Sprintf("at most %d days before it is entered, and at most %d days ahead", days(sites.MaxOrderPast), days(sites.MaxAhead))},
		{"roster_service.proto", fmt.Sprintf("not before %d and at most %d days ahead. An import", sites.FirstYear, days(sites.MaxAhead))},
		{"roster_service.proto", fmt.Sprintf("another is not before %d and at most %d days ahead", sites.FirstYear, days(sites.MaxAhead))},
		{"roster_service.proto", fmt.Sprintf("absent means now. Not before %d, and at most %d days ahead", sites.FirstYear, days(sites.MaxAhead))},
		{"closure_order.proto", fmt.Sprintf("at most %d days after the start", days(sites.MaxOrderLength))},
		{"closure_order.proto", fmt.Sprintf("%d hour to %d days", sites.MinInspectionInterval/time.Hour, days(sites.MaxInspectionInterval))},
		{"error_reason.proto", fmt.Sprintf("lasts at most %d days", days(sites.MaxOrderLength))},
		{"coverage_service.proto", fmt.Sprintf("is at most %d days long", days(coverage.MaxWindow))},
		{"error_reason.proto", fmt.Sprintf("longer than %d days", days(coverage.MaxWindow))},
		{"photo_service.proto", fmt.Sprintf("is kept for %d days", photos.PartialDays)},
		{"account_service.proto", fmt.Sprintf("The first %d are kept", accounts.MaxDeviceName)},
		{"check_in.proto", fmt.Sprintf("at most %d, of which the first %d that can be kept are", inspections.MaxDeclaredPhotos, inspections.MaxPhotos)},
		{"check_in.proto", fmt.Sprintf("of 1 to %s bytes are kept, and JPEGs of up to %s", grouped(picture.MaxBytes), grouped(picture.DefaultJPEGBytes))},
		{"check_in.proto", fmt.Sprintf("of up to %d megapixels are kept, and JPEGs of up to %d", picture.MaxPixels/1_000_000, picture.DefaultJPEGPixels/1_000_000)},
		{"check_in.proto", fmt.Sprintf("at most %s characters. %s, %s and %s are kept", grouped(maxContentType), picture.JPEG, picture.PNG, picture.WebP)},
		{"check_in.proto", fmt.Sprintf("has a name of more than %d characters", inspections.MaxMediaType)},
		{"account_service.proto", fmt.Sprintf("%d to %d characters", accounts.MinPassword, accounts.MaxPassword)},
		{"account_service.proto", fmt.Sprintf("once, within %d days", days(accounts.RefreshLifetime))},
		{"account_service.proto", fmt.Sprintf("one Login within %d days", days(accounts.OneTimeLifetime))},
	} {
		if !strings.Contains(files[test.file], test.want) {
			t.Errorf("%s does not say %q", test.file, test.want)
		}
	}
	for _, test := range []struct {
		err  error
		want []string
	}{
		{inspections.ErrFuture, []string{fmt.Sprint(int(inspections.FutureTolerance / time.Minute))}},
		{coverage.ErrWindowTooLong, []string{fmt.Sprint(days(coverage.MaxWindow))}},
		{sites.ErrOrderTooLong, []string{fmt.Sprint(days(sites.MaxOrderLength))}},
		{accounts.ErrWeakPassword, []string{fmt.Sprint(accounts.MinPassword), fmt.Sprint(accounts.MaxPassword)}},
	} {
		m := meaningOf(test.err)
		number := regexp.MustCompile(`\d+`)
		for _, sentence := range []string{m.en, m.zh} {
			if got := number.FindAllString(sentence, -1); !slices.Equal(got, test.want) {
				t.Errorf("%q has the numbers %v, want %v", sentence, got, test.want)
			}
		}
	}
}
