package rpc

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"golang.org/x/text/language"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"xuncha/inspections"
	"xuncha/inspections/coverage"
	"xuncha/inspections/photos"
	"xuncha/inspections/picture"
	"xuncha/ledger"
	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/server/internal/accounts"
	"xuncha/sites"
)

// Errors of the transport itself, beside those of the domain.
var (
	errMalformedID = errors.New("is malformed")
	errUTF8        = errors.New("is not valid UTF-8")
	errMalformed   = errors.New("the request's bytes cannot be read")
	errPageToken   = errors.New("belongs to another query")
	errTooLarge    = errors.New("the request is too large")

	errUnimplemented = errors.New("there is no such service or method")
)

// A meaning is what an error becomes on the wire.
type meaning struct {
	err    error
	code   codes.Code
	reason xunchav1.ErrorReason
	// retry is how long a caller should wait before trying the same again;
	// zero where that is of no use.
	retry time.Duration
	// private tells that the error's own text may hold what callers must not
	// see; they get the English sentence alone.
	private bool
	// en and zh are for people.
	en, zh string
}

// words returns the sentence in each language.
func (m meaning) words() word { return word{m.en, m.zh} }

// alteredRetry is after how long a phone tries again where a history does not verify:
// somebody has to decide first. Until then it keeps what it has.
const alteredRetry = 10 * time.Minute

// busyRetry is after how long a caller tries again where the server does as much at once as
// it can.
const busyRetry = 2 * time.Second

// proxyRetry is after how long a phone tries again where the proxy is not set right.
const proxyRetry = time.Minute

const (
	alteredEN = "Stored data was altered and waits for whoever runs the server. Keep what you have; it is sent again later."
	alteredZH = "服务器上的存档数据被改动，正等待管理员处理。请保留当前内容，稍后会自动重试。"
)

// meanings is the one table from errors to what callers see. The first row
// whose error the error at hand wraps counts; what is in no row is INTERNAL.
var meanings = []meaning{
	{inspections.ErrClockDoubtful, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_CLOCK_UNCONFIRMED, alteredRetry, false,
		"The server's clock may be wrong and waits for whoever runs it. Keep what you have; it is sent again later.", "服务器时钟可能有误，正等待管理人员确认。请保留数据，稍后会再次发送。"},
	{inspections.ErrConflict, codes.AlreadyExists, xunchav1.ErrorReason_ERROR_REASON_CHECK_IN_CONFLICT, 0, false,
		"This check-in id was used for other content.", "该检查编号已用于内容不同的记录。"},
	{inspections.ErrNotFound, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_CHECK_IN_NOT_FOUND, 0, false,
		"The site has no such check-in.", "该场所没有此检查记录。"},
	{inspections.ErrNoOrder, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_NO_ORDER_IN_FORCE, 0, false,
		"No closure order closes the site at that time.", "该时间没有对此场所生效的暂停开放通知。"},
	{inspections.ErrBeforeOrder, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_CAPTURE_BEFORE_ORDER, 0, false,
		"The visit is earlier than the start of the closure order.", "检查时间早于暂停开放通知的生效时间。"},
	{inspections.ErrFuture, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_CAPTURE_IN_FUTURE, 0, false,
		"The visit lies more than 5 minutes in the future. Check the phone's clock.", "检查时间晚于当前时间5分钟以上，请检查手机时钟。"},
	{inspections.ErrNotRegistered, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_SITE_NOT_REGISTERED, 0, false,
		"The site is not registered at that time.", "该场所在此时间未登记或已注销。"},
	{photos.ErrUnknown, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_PHOTO_NOT_FOUND, 0, false,
		"The check-in declares no such photo. Send another check-in with it.", "该检查记录没有申报此照片，请另行提交一次检查并附上此照片。"},
	{inspections.ErrPhotoFormat, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PHOTO_FORMAT_UNSUPPORTED, 0, false,
		"Photos of this type are not kept, but JPEG, PNG and WebP are. Set the camera to JPEG, take the photo again and send another check-in with it.", "不支持此照片格式，只支持JPEG、PNG和WebP。请将相机设为JPEG格式重新拍摄，并另行提交一次检查。"},
	{inspections.ErrPhotoTooLarge, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PHOTO_TOO_LARGE, 0, false,
		"The photo has too many bytes. Take it again in a lower resolution and send another check-in with it.", "照片文件过大，请降低分辨率重新拍摄，并另行提交一次检查。"},
	{inspections.ErrTooManyPhotos, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_TOO_MANY_PHOTOS, 0, false,
		"Of a check-in, the first 10 photos are kept. If this one matters, send another check-in with it.", "每次检查只保存前10张照片。此照片如有必要，请另行提交一次检查。"},
	{photos.ErrRefused, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_PHOTO_NOT_STORED, 0, false,
		"The photo was refused when its check-in arrived, and is not stored. The check-in's receipt says why.", "该照片在提交检查时未被接收，因此没有保存，原因见检查回执。"},
	{photos.ErrMissing, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_PHOTO_NOT_STORED, 0, false,
		"The photo has not been uploaded to its end. Upload the rest first.", "照片尚未上传完成，请先上传其余部分。"},
	{photos.ErrPurged, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_PHOTO_PURGED, 0, false,
		"The time for which the photo is kept is over.", "照片已超过保存期限。"},
	{photos.ErrLost, codes.DataLoss, xunchav1.ErrorReason_ERROR_REASON_PHOTO_LOST, 0, true,
		"The stored photo is lost or altered. Tell an auditor.", "已存照片丢失或被改动，请告知审计人员。"},
	{photos.ErrOffset, codes.OutOfRange, xunchav1.ErrorReason_ERROR_REASON_PHOTO_OFFSET, 0, false,
		"The upload must go on at the byte where it stopped. GetPhotoUpload says which.", "上传必须从中断处继续，请先查询已上传的字节数。"},
	{photos.ErrSize, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PHOTO_SIZE_MISMATCH, 0, false,
		"The photo has more bytes than its check-in declares. Send another check-in with it.", "照片大小超过申报值，请另行提交一次检查并附上此照片。"},
	{photos.ErrHash, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PHOTO_HASH_MISMATCH, 0, false,
		"What arrived is not the photo that was declared. Send it from its beginning.", "收到的内容与申报的照片不符，请从头上传。"},
	{photos.ErrType, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PHOTO_TYPE_MISMATCH, 0, false,
		"The photo is of another type than its check-in declares. Set the camera to JPEG, take the photo again and send another check-in with it.", "照片格式与申报的不符，请将相机设为JPEG格式重新拍摄，并另行提交一次检查。"},
	{errThumbnail, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_NO_THUMBNAIL, 0, false,
		"No thumbnail can be made of this photo. Download it in full.", "无法生成该照片的缩略图，请下载原图。"},
	{picture.ErrNotPicture, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_NOT_A_PICTURE, 0, false,
		"The file is not a whole JPEG, PNG or WebP picture. Take the photo again and send another check-in with it.", "该文件不是完整的JPEG、PNG或WebP图片，请重新拍摄，并另行提交一次检查。"},
	{picture.ErrTooLarge, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_PICTURE_TOO_LARGE, 0, false,
		"The picture has too many pixels. Take it again in a lower resolution and send another check-in with it.", "图片像素过多，请降低分辨率重新拍摄，并另行提交一次检查。"},
	{sites.ErrSiteStruckOff, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_SITE_NOT_REGISTERED, 0, false,
		"The site is struck off.", "该场所已注销。"},
	{sites.ErrSiteUnknown, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_SITE_NOT_FOUND, 0, false,
		"There is no such site.", "没有此场所。"},
	{sites.ErrDivisionUnknown, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_DIVISION_NOT_FOUND, 0, false,
		"There is no such division.", "没有此行政区划。"},
	{sites.ErrDivisionEnded, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_DIVISION_ENDED, 0, false,
		"The division does not exist at that time.", "该行政区划在此时间不存在。"},
	{sites.ErrNotVillage, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_NOT_A_VILLAGE, 0, false,
		"A site can only stand in a village or community.", "场所只能登记在村或社区。"},
	{sites.ErrRegistrationTaken, codes.AlreadyExists, xunchav1.ErrorReason_ERROR_REASON_REGISTRATION_NO_TAKEN, 0, false,
		"Another site has, or had, this registration number.", "该登记编号已被使用。"},
	{sites.ErrStale, codes.Aborted, xunchav1.ErrorReason_ERROR_REASON_STALE_ETAG, 0, false,
		"The site was changed since it was read. Read it again.", "该场所已被他人修改，请重新读取。"},
	{sites.ErrOrderUnknown, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_CLOSURE_ORDER_NOT_FOUND, 0, false,
		"There is no such closure order.", "没有此暂停开放通知。"},
	{sites.ErrOrderNumberTaken, codes.AlreadyExists, xunchav1.ErrorReason_ERROR_REASON_CLOSURE_ORDER_NUMBER_TAKEN, 0, false,
		"Another closure order has this number.", "该通知文号已被使用。"},
	{sites.ErrOrderTooLong, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_CLOSURE_ORDER_TOO_LONG, 0, false,
		"A closure order lasts at most 90 days.", "暂停开放通知的期限不得超过90天。"},
	{sites.ErrOrderEnded, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_CLOSURE_ORDER_ENDED, 0, false,
		"A closure order can only end after its start and before the end that it has.", "该通知只能在其开始之后、现有结束时间之前结束。"},
	{sites.ErrChangeUnknown, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_CHANGE_NOT_FOUND, 0, false,
		"There is no such change, or it touches other divisions than yours.", "没有此项更改，或其涉及您负责区划以外的区划。"},
	{sites.ErrRestedOn, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_CHANGE_RESTED_ON, 0, false,
		"A later change rests on this one. Take that back first.", "之后另有更改以此项更改为基础，请先撤销后者。"},
	{sites.ErrNotRevocable, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_CHANGE_NOT_REVOCABLE, 0, false,
		"This change was taken back already, or is of a kind that cannot be.", "此项更改已被撤销，或属于不可撤销的类型。"},
	{ledger.ErrRequestConflict, codes.AlreadyExists, xunchav1.ErrorReason_ERROR_REASON_REQUEST_CONFLICT, 0, false,
		"This request id was used for another request. Make a new one.", "该请求编号已用于其他请求，请使用新的编号。"},
	{sites.ErrImportRejected, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_IMPORT_REJECTED, 0, false,
		"Rows of the table are wrong. Nothing was changed.", "表格中有错误的行，未作任何更改。"},
	{coverage.ErrWindow, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_INVALID_WINDOW, 0, false,
		"The window must end after it starts.", "时间段的结束必须晚于开始。"},
	{coverage.ErrWindowTooLong, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_WINDOW_TOO_LONG, 0, false,
		"The window is longer than 400 days. Ask for a shorter one.", "时间段超过400天，请缩短。"},
	{coverage.ErrTooManyRows, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_REPORT_TOO_LARGE, 0, false,
		"The report has too many rows. Ask for a lesser depth.", "报告行数过多，请减小depth。"},
	{errReportTooLarge, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_REPORT_TOO_LARGE, 0, false,
		"The report is too large. Ask for a lesser depth.", "报告过大，请减小depth。"},
	{errPageToken, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_INVALID_PAGE_TOKEN, 0, false,
		"The page token belongs to another query. Begin again without one.", "分页标记与此查询不符，请从第一页重新查询。"},
	{sites.ErrMissing, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_MISSING_FIELD, 0, false,
		"A required field is missing.", "缺少必填字段。"},
	{sites.ErrOutOfRange, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_OUT_OF_RANGE, 0, false,
		"A value is out of range.", "数值超出允许范围。"},
	{sites.ErrTooLong, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_TOO_LONG, 0, false,
		"A text or a list is too long.", "文字或列表过长。"},
	{errMalformedID, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_MALFORMED_ID, 0, false,
		"An id is malformed.", "编号格式不正确。"},
	{errUTF8, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_INVALID_UTF8, 0, false,
		"A text is not valid UTF-8.", "文字不是有效的UTF-8编码。"},
	{errMalformed, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_MALFORMED_REQUEST, 0, false,
		"The request cannot be read.", "无法读取请求内容。"},
	{errTooLarge, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_REQUEST_TOO_LARGE, 0, false,
		"The request is too large.", "请求内容过大。"},
	{errUnimplemented, codes.Unimplemented, xunchav1.ErrorReason_ERROR_REASON_UNIMPLEMENTED, 0, false,
		"The server has no such service or method.", "服务器没有此服务或方法。"},
	{sites.ErrInvalid, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_INVALID_FIELD, 0, false,
		"A field's value is invalid.", "字段的值无效。"},
	{accounts.ErrToken, codes.Unauthenticated, xunchav1.ErrorReason_ERROR_REASON_TOKEN_INVALID, 0, false,
		"The call has no valid access token. Sign in.", "访问令牌无效，请登录。"},
	{accounts.ErrSignIn, codes.Unauthenticated, xunchav1.ErrorReason_ERROR_REASON_SIGN_IN_FAILED, 0, false,
		"The username or the password is wrong.", "用户名或密码错误。"},
	{accounts.ErrThrottled, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_SIGN_IN_THROTTLED, time.Second, false,
		"Too many failed attempts to sign in. Wait, and then use a device that was signed in before, or ask an administrator.", "登录失败次数过多，请稍候重试；也可使用曾登录过的设备，或联系管理员。"},
	{accounts.ErrBusy, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_SERVER_BUSY, busyRetry, false,
		"The server does as much of this at once as it can. Try again.", "服务器繁忙，请稍后重试。"},
	{errLimited, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_RATE_LIMITED, time.Second, false,
		"Too many calls. Wait.", "请求过于频繁，请稍候。"},
	{errCrowded, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_RATE_LIMITED, crowdedRetry, false,
		"Too many questions of this account are under way. Wait for their answers.", "该账号同时进行的查询过多，请等待其完成。"},
	{accounts.ErrIdentity, codes.PermissionDenied, xunchav1.ErrorReason_ERROR_REASON_IDENTITY_UNUSABLE, 0, false,
		"The identity provider's token cannot be used here: a claim is missing, not known to the server, or beyond a limit. Tell an administrator.", "身份提供方的令牌无法使用：其中有声明缺失、无法识别或超出限制，请告知管理员。"},
	{accounts.ErrProvider, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_IDENTITY_PROVIDER_UNAVAILABLE, 2 * time.Second, true,
		"The identity provider cannot be used at the moment. Try again.", "身份提供方暂时不可用，请稍后重试。"},
	{accounts.ErrKeptElsewhere, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_ACCOUNT_KEPT_ELSEWHERE, 0, false,
		"The identity provider keeps the account. Change it there.", "该账号由身份提供方管理，请在该处修改。"},
	{accounts.ErrNoPasswords, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_NO_PASSWORDS, 0, false,
		"The server takes no passwords. Sign in at the identity provider.", "服务器不接受密码登录，请通过身份提供方登录。"},
	{accounts.ErrPasswordChange, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_PASSWORD_CHANGE_REQUIRED, 0, false,
		"Give a new password together with the one-time password.", "请在使用一次性密码时设置新密码。"},
	{accounts.ErrWeakPassword, codes.InvalidArgument, xunchav1.ErrorReason_ERROR_REASON_WEAK_PASSWORD, 0, false,
		"A new password has 15 to 128 characters, is neither the username nor the old password, and is not a common one, such as a word or a name with digits after it. Several words that do not belong together are good.", "新密码须为15至128个字符，不得与用户名或旧密码相同，也不得过于常见（如单词或姓名拼音加数字、键盘顺序）。可以用几个互不相关的词。"},
	{errRole, codes.PermissionDenied, xunchav1.ErrorReason_ERROR_REASON_ROLE_NOT_ALLOWED, 0, false,
		"Your role may not do this.", "您的角色无权执行此操作。"},
	{errNotWhole, codes.PermissionDenied, xunchav1.ErrorReason_ERROR_REASON_ROLE_NOT_ALLOWED, 0, false,
		"Only an account that is responsible for all divisions may do this.", "只有负责全部行政区划的账号才能执行此操作。"},
	{errChecking, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_RATE_LIMITED, time.Minute, false,
		"Another check of all histories is under way. Try again once it is done.", "另一次全面校验正在进行，请待其完成后重试。"},
	{accounts.ErrUnknown, codes.NotFound, xunchav1.ErrorReason_ERROR_REASON_ACCOUNT_NOT_FOUND, 0, false,
		"There is no such account.", "没有此账号。"},
	{accounts.ErrUsernameTaken, codes.AlreadyExists, xunchav1.ErrorReason_ERROR_REASON_USERNAME_TAKEN, 0, false,
		"The username is taken.", "该用户名已被使用。"},
	{accounts.ErrDisabled, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED, 0, false,
		"The account is disabled.", "该账号已停用。"},
	{accounts.ErrLastAdministrator, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_LAST_ADMINISTRATOR, 0, false,
		"No other administrator who can sign in keeps all of these divisions. Appoint one first, or repeat the request with force.", "没有其他可以登录的管理员负责这些区划。请先指定一名管理员，或强制执行（force）。"},
	{errNoAccounts, codes.FailedPrecondition, xunchav1.ErrorReason_ERROR_REASON_NO_ACCOUNTS, 0, false,
		"The server has no accounts yet.", "服务器尚未创建账号。"},
	{ledger.ErrAltered, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_HISTORY_ALTERED, alteredRetry, true,
		alteredEN, alteredZH},
	// Whoever meets such an entry before it was found has the same to do.
	{ledger.ErrBadRecord, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_HISTORY_ALTERED, alteredRetry, true,
		alteredEN, alteredZH},
	{ledger.ErrBroken, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_HISTORY_ALTERED, alteredRetry, true,
		alteredEN, alteredZH},
	{sites.ErrRowsUnknown, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_HISTORY_ALTERED, alteredRetry, true,
		alteredEN, alteredZH},
	{ledger.ErrMoved, codes.Aborted, xunchav1.ErrorReason_ERROR_REASON_CONTENTION, 100 * time.Millisecond, true,
		"Others are changing the same thing. Try again.", "他人正在修改同一内容，请重试。"},
	{ledger.ErrFull, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_STORE_FULL, time.Minute, true,
		"The server has no room left. Try again later.", "服务器存储空间已满，请稍后重试。"},
	{ledger.ErrUnavailable, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, time.Second, true,
		"The server cannot store or read just now. Try again.", "服务器暂时无法读写，请重试。"},
	{errStarting, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE, time.Second, false,
		"The server is starting and still reads what is stored. Try again.", "服务器正在启动，请稍后重试。"},
	// Phones keep what they have until the proxy is set right.
	{errForwarded, codes.Unavailable, xunchav1.ErrorReason_ERROR_REASON_PROXY_MISCONFIGURED, proxyRetry, false,
		"The proxy before the server does not say from where calls come. Tell whoever runs it; keep what you have, it is sent again later.", "服务器前的代理未正确标明请求来源，请告知管理人员。请保留数据，稍后会再次发送。"},
	{errAged, codes.DeadlineExceeded, xunchav1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, time.Second, false,
		"The call has lasted as long as any may. Begin it again; an upload goes on where it stopped.", "调用已达到允许的最长时间，请重新发起；照片上传可从中断处继续。"},
	{errSilent, codes.DeadlineExceeded, xunchav1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, time.Second, false,
		"The import has sent no row for a minute. Nothing was changed; begin it again.", "导入已有一分钟未发送任何数据，未作任何更改，请重新导入。"},
	{errImportsBusy, codes.ResourceExhausted, xunchav1.ErrorReason_ERROR_REASON_SERVER_BUSY, importRetry, false,
		"Too many imports are under way. Nothing was changed; try again once one of them has ended.", "同时进行的导入过多，未作任何更改，请待其他导入完成后重试。"},
	{context.DeadlineExceeded, codes.DeadlineExceeded, xunchav1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED, time.Second, true,
		"The call took too long. Try again.", "请求超时，请重试。"},
	{context.Canceled, codes.Canceled, xunchav1.ErrorReason_ERROR_REASON_CANCELLED, 0, true,
		"The call was cancelled.", "请求已取消。"},
}

var internal = meaning{nil, codes.Internal, xunchav1.ErrorReason_ERROR_REASON_INTERNAL, 0, true,
	"The server failed. It has logged why.", "服务器内部错误，已记录日志。"}

// meaningOf returns the row of the error, or, where several fields are wrong, that of the
// first of them.
func meaningOf(err error) meaning {
	var all sites.FieldErrors
	if errors.As(err, &all) {
		err = all[0]
	}
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			m.en, m.zh = m.sentences(err)
			return m
		}
	}
	return internal
}

// sentences returns the meaning's sentences, with the limits that the error names.
func (m meaning) sentences(err error) (en, zh string) {
	var rows *coverage.TooManyRowsError
	var large *reportTooLargeError
	var rests *sites.RestedOnError
	var pixels *picture.TooLargeError
	var photo *inspections.PhotoError
	switch {
	case errors.As(err, &rests):
		return fmt.Sprintf("The later change %d rests on this one. Take that back first.", rests.Revision),
			fmt.Sprintf("第%[1]d号更改以此项更改为基础，请先撤销第%[1]d号更改。", rests.Revision)
	case errors.As(err, &pixels) && int64(pixels.Width)*int64(pixels.Height) <= pixels.Limit:
		return fmt.Sprintf("The picture has %d × %d pixels, more than were kept when its check-in arrived. Now it can be kept: send another check-in with it.", pixels.Width, pixels.Height),
			fmt.Sprintf("图片为%d×%d像素，超过了提交检查时的上限。现在可以保存，请另行提交一次检查并附上此照片。", pixels.Width, pixels.Height)
	case errors.As(err, &pixels):
		return fmt.Sprintf("The picture has %d × %d pixels; at most %g megapixels are kept. Take it again in a lower resolution and send another check-in with it.", pixels.Width, pixels.Height, pixels.Megapixels()),
			fmt.Sprintf("图片为%d×%d像素，最多可保存%g万像素。请降低分辨率重新拍摄，并另行提交一次检查。", pixels.Width, pixels.Height, 100*pixels.Megapixels())
	case errors.As(err, &photo):
		return m.ofPhoto(photo)
	case errors.As(err, &rows):
		return fmt.Sprintf("The report has more than %d rows. A depth of %d fits.", rows.MaxRows, rows.Fits),
			fmt.Sprintf("报告超过%d行，depth为%d时可以返回。", rows.MaxRows, rows.Fits)
	case errors.As(err, &large):
		return fmt.Sprintf("The report is larger than %d MiB. A depth of %d fits.", maxAnswer>>20, large.fits),
			fmt.Sprintf("报告超过%d MiB，depth为%d时可以返回。", maxAnswer>>20, large.fits)
	}
	return m.en, m.zh
}

// ofPhoto is sentences for a photo that is not taken.
func (m meaning) ofPhoto(e *inspections.PhotoError) (en, zh string) {
	switch {
	case errors.Is(e, inspections.ErrPhotoTooLarge) && e.Photo.Size <= e.Limit:
		return fmt.Sprintf("The photo has %d bytes, more than were kept when its check-in arrived. Now it can be kept: send another check-in with it.", e.Photo.Size),
			fmt.Sprintf("照片为%d字节，超过了提交检查时的上限。现在可以保存，请另行提交一次检查并附上此照片。", e.Photo.Size)
	case errors.Is(e, inspections.ErrPhotoTooLarge):
		size, limit := megabytes(e.Photo.Size), megabytes(e.Limit)
		if size == limit { // as people say it, and not to the byte
			size, limit = fmt.Sprintf("%d bytes", e.Photo.Size), fmt.Sprintf("%d bytes", e.Limit)
		}
		inChinese := strings.NewReplacer(" bytes", "字节").Replace
		return fmt.Sprintf("The photo has %s; at most %s are kept of its type. Take it again in a lower resolution and send another check-in with it.", size, limit),
			fmt.Sprintf("照片为%s，此格式最多可保存%s。请降低分辨率重新拍摄，并另行提交一次检查。", inChinese(size), inChinese(limit))
	case errors.Is(e, inspections.ErrPhotoFormat) && e.Photo.Size < 1:
		return "The photo's file is empty. Take it again and send another check-in with it.", "照片文件为空，请重新拍摄，并另行提交一次检查。"
	case errors.Is(e, inspections.ErrPhotoFormat) && e.Photo.ContentType != "":
		return fmt.Sprintf("Photos of the type %s are not kept, but JPEG, PNG and WebP are. Set the camera to JPEG, take the photo again and send another check-in with it.", e.Photo.ContentType),
			fmt.Sprintf("不支持%s格式的照片，只支持JPEG、PNG和WebP。请将相机设为JPEG格式重新拍摄，并另行提交一次检查。", e.Photo.ContentType)
	}
	return m.en, m.zh
}

// megabytes says as people say it how large a file is, rounded up.
func megabytes(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%g KB", math.Ceil(float64(n)/1024*10)/10)
	}
	return fmt.Sprintf("%g MB", math.Ceil(float64(n)/(1<<20)*10)/10)
}

// fittingDepth returns the depth that the error of a report names.
func fittingDepth(err error) (int, bool) {
	var rows *coverage.TooManyRowsError
	var large *reportTooLargeError
	switch {
	case errors.As(err, &rows):
		return rows.Fits, true
	case errors.As(err, &large):
		return large.fits, true
	}
	return 0, false
}

// rules turns the rules of buf.validate into errors of the table, by the
// beginning of the rule's id.
var rules = []struct {
	id  string
	err error
}{
	{"required", sites.ErrMissing},
	{"string.uuid", errMalformedID},
	{"string.pattern", errMalformedID},
	{"string.max_", sites.ErrTooLong},
	{"repeated.max_items", sites.ErrTooLong},
	{"int32.", sites.ErrOutOfRange},
	{"int64.", sites.ErrOutOfRange},
	{"double.", sites.ErrOutOfRange},
}

// ruleError returns the error of the table that a violation of a rule is, with
// what the rule says. Of a text, bytes or an enum that is not given at all, it
// says that rather than what it would have to be.
func ruleError(v *protovalidate.Violation) error {
	if d := v.FieldDescriptor; d != nil && !d.IsList() && !d.IsMap() && v.FieldValue.IsValid() {
		empty := false
		switch d.Kind() {
		case protoreflect.StringKind:
			empty = v.FieldValue.String() == ""
		case protoreflect.BytesKind:
			empty = len(v.FieldValue.Bytes()) == 0
		case protoreflect.EnumKind:
			empty = v.FieldValue.Enum() == 0
		}
		if empty {
			return sites.ErrMissing
		}
	}
	id := v.Proto.GetRuleId()
	for _, r := range rules {
		if strings.HasPrefix(id, r.id) {
			return &ruleViolation{r.err, v.Proto.GetMessage(), limitOfRules(v.FieldDescriptor)}
		}
	}
	return &ruleViolation{sites.ErrInvalid, v.Proto.GetMessage(), limit{}}
}

// maxViolations bounds the fields that one error names, because details travel
// in HTTP headers, which clients and proxies limit to some kilobytes.
const maxViolations = 20

// toStatus returns the error as callers see it: its code, and as details its
// reason, the fields that it is about, when to retry, and a sentence in the
// caller's language.
func toStatus(ctx context.Context, err error, requestID string) *status.Status {
	chinese := wantsChinese(ctx)
	var fields []*errdetails.BadRequest_FieldViolation
	violate := func(field string, err error) {
		m := meaningOf(err)
		if m.private {
			return
		}
		fields = append(fields, &errdetails.BadRequest_FieldViolation{
			Field: field, Description: err.Error(), Reason: reasonName(m.reason),
			LocalizedMessage: localizedIn(chinese, said(field, err)),
		})
	}
	m := meaningOf(err)
	message := err.Error()
	var rejected *sites.ImportError
	info := map[string]string{"request_id": requestID}
	if errors.As(err, &rejected) {
		for i, p := range rejected.Problems {
			if i == maxViolations {
				break
			}
			violate("row["+itoa(p.Row)+"]."+p.Column, p.Err)
		}
		info["problem_count"] = itoa(rejected.Total)
	} else if !m.private {
		all := sites.FieldErrorsOf(err)
		for _, f := range all[:min(len(all), maxViolations)] {
			violate(f.Field, f.Err)
		}
		m = m.saidOfAll(all)
		if len(all) > 1 {
			message = fmt.Sprintf("%v (and %d more)", all[0], len(all)-1)
			info["problem_count"] = itoa(len(all))
		}
	}
	if depth, ok := fittingDepth(err); ok {
		info["fitting_depth"] = itoa(depth)
	}
	var rests *sites.RestedOnError
	if errors.As(err, &rests) {
		info["revision"] = strconv.FormatInt(rests.Revision, 10)
	}
	if m.private {
		message = m.en
	}
	var wait interface{ RetryAfter() time.Duration }
	if errors.As(err, &wait) {
		m.retry = wait.RetryAfter()
	}
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Domain: "xuncha", Reason: reasonName(m.reason), Metadata: info},
	}
	if len(fields) > 0 {
		details = append(details, &errdetails.BadRequest{FieldViolations: fields})
	}
	if m.retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(m.retry)})
	}
	details = append(details, localizedIn(chinese, m.words()))
	st := status.New(m.code, message)
	if with, err := st.WithDetails(details...); err == nil {
		st = with
	}
	return st
}

// A ruleViolation is an error of the table with what the rule says of it.
type ruleViolation struct {
	err  error
	text string
	limit
}

func (v *ruleViolation) Error() string { return v.text }
func (v *ruleViolation) Unwrap() error { return v.err }

func reasonName(r xunchav1.ErrorReason) string {
	return strings.TrimPrefix(r.String(), "ERROR_REASON_")
}

// languages finds the language of a caller among those of the sentences, of
// which the first is for whoever wants neither. Traditional Chinese is answered
// in simplified Chinese, which its readers understand better than English.
var languages = language.NewMatcher([]language.Tag{language.English, language.SimplifiedChinese, language.TraditionalChinese})

// mostLanguages is how many bytes of accept-language are read: three times what browsers
// send. A caller without a token can send 32 KiB, and each language takes time.
const mostLanguages = 128

// wantsChinese reports whether the call's accept-language prefers Chinese, as RFC 9110,
// section 12.5.4, has it. One that cannot be read prefers neither.
func wantsChinese(ctx context.Context) bool {
	header := strings.Join(metadata.ValueFromIncomingContext(ctx, "accept-language"), ",")
	if len(header) > mostLanguages { // the first ones are mostly those that are preferred
		header = header[:max(0, strings.LastIndexByte(header[:mostLanguages], ','))]
	}
	wanted, _, _ := language.ParseAcceptLanguage(header)
	_, i, _ := languages.Match(wanted...)
	return i > 0
}

// localized returns the sentence in the language of the call's caller.
func localized(ctx context.Context, m word) *errdetails.LocalizedMessage {
	return localizedIn(wantsChinese(ctx), m)
}

// localizedIn returns the sentence in Chinese or in English.
func localizedIn(chinese bool, m word) *errdetails.LocalizedMessage {
	if chinese {
		return &errdetails.LocalizedMessage{Locale: "zh-CN", Message: m.zh}
	}
	return &errdetails.LocalizedMessage{Locale: "en", Message: m.en}
}
