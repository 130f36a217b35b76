package rpc

import (
	"google.golang.org/protobuf/proto"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// shortenCodes brings the division codes of a request to their shortest form:
// whoever has a code of 12 digits from a table can ask with it. The rows of an
// import stay as they are, because its problems name what the table says.
func shortenCodes(m proto.Message) {
	switch m := m.(type) {
	case *xunchav1.ListDivisionsRequest:
		shorten(&m.ParentCode)
	case *xunchav1.GetDivisionRequest:
		shorten(&m.Code)
	case *xunchav1.CreateSiteRequest:
		if m.Site != nil {
			shorten(&m.Site.DivisionCode)
		}
	case *xunchav1.MoveSiteRequest:
		shorten(&m.DivisionCode)
	case *xunchav1.ListSitesRequest:
		shorten(&m.DivisionCode)
	case *xunchav1.CreateClosureOrderRequest:
		shortenAll(m.ClosureOrder.GetDivisionCodes())
	case *xunchav1.ListCheckInsRequest:
		shorten(&m.DivisionCode)
	case *xunchav1.GetCoverageRequest:
		shorten(&m.DivisionCode)
	case *xunchav1.ListDueSitesRequest:
		shorten(&m.DivisionCode)
	case *xunchav1.ListAccessesRequest:
		shorten(&m.DivisionCode)
	case *xunchav1.CreateAccountRequest:
		shortenAll(m.Account.GetDivisionCodes())
	case *xunchav1.UpdateAccountRequest:
		shortenAll(m.DivisionCodes)
	}
}

func shorten(code *string) { *code = string(sites.DivisionCode(*code).Shortest()) }

func shortenAll(codes []string) {
	for i := range codes {
		shorten(&codes[i])
	}
}
