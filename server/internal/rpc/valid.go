package rpc

import (
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"xuncha/inspections"
	xunchav1 "xuncha/proto/xuncha/v1"
)

// This file checks by hand what the .proto files say of the messages that come most
// often. What it does not find valid, protovalidate checks, and says what is wrong
// with it. A test holds that both agree.

// plainlyValid reports whether all rules of the .proto files hold for the message. Of
// the messages that it does not know it says that they do not.
func plainlyValid(m proto.Message) bool {
	switch m := m.(type) {
	case *xunchav1.SubmitCheckInRequest:
		return m.CheckIn != nil && validCheckIn(m.CheckIn)
	case *xunchav1.GetCheckInRequest:
		return isUUID(m.SiteId) && isUUID(m.CheckInId)
	case *xunchav1.GetCoverageRequest:
		return isDivision(m.DivisionCode) && m.Depth >= 0 && m.Depth <= 5
	case *xunchav1.ListDueSitesRequest:
		_, defined := xunchav1.DueState_name[int32(m.State)]
		return isDivision(m.DivisionCode) && defined && validPage(m.PageSize, m.PageToken)
	case *xunchav1.ListSiteHistoryRequest:
		return isUUID(m.SiteId) && validPage(m.PageSize, m.PageToken)
	case *xunchav1.UploadPhotoRequest:
		_, isData := m.Part.(*xunchav1.UploadPhotoRequest_Data)
		return isData
	}
	return false
}

// maxContentType is the length in characters of a media type with its parameters, which has
// room for those of a video. What is put on record is shorter.
const maxContentType = 1000

func validCheckIn(c *xunchav1.CheckIn) bool {
	_, defined := xunchav1.Finding_name[int32(c.Finding)]
	if !isUUID(c.CheckInId) || !isUUID(c.SiteId) || c.CaptureTime == nil || !defined || c.Finding == 0 ||
		c.CancelledEventCount < 0 || c.CancelledEventCount > inspections.MaxCancelledEvents ||
		c.DispersedPeopleCount < 0 || c.DispersedPeopleCount > inspections.MaxDispersedPeople ||
		!isAtMost(c.Note, inspections.MaxSentNote) || len(c.Photos) > inspections.MaxDeclaredPhotos {
		return false
	}
	for _, p := range c.Photos {
		if len(p.GetSha256()) != 32 || !isAtMost(p.ContentType, maxContentType) {
			return false
		}
	}
	return true
}

func validPage(size int32, token string) bool { return size >= 0 && isAtMost(token, 1024) }

// isAtMost reports whether a text has at most n characters.
func isAtMost(text string, n int) bool {
	return len(text) <= n || len(text) <= utf8.UTFMax*n && utf8.RuneCountInString(text) <= n
}

// isUUID reports whether a text is a UUID in either case.
func isUUID(text string) bool {
	if len(text) != 36 {
		return false
	}
	for i := range len(text) {
		switch c := text[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f') {
				return false
			}
		}
	}
	return true
}

// isDivision reports whether a text has the form of a division's code.
func isDivision(text string) bool {
	if len(text) != 6 && len(text) != 9 && len(text) != 12 {
		return false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}
