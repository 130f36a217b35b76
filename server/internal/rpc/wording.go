package rpc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	xunchav1 "xuncha/proto/xuncha/v1"
	"xuncha/sites"
)

// This file says to people what is wrong with a field of their request: which one, and what
// its limit is, in both languages.

// A word is what something is called in each language.
type word struct{ en, zh string }

// fieldWords are what the fields of requests are called, by the last name of their paths.
var fieldWords = map[string]word{
	"account":                {"account", "账号"},
	"account_id":             {"account", "账号"},
	"accuracy_m":             {"accuracy", "定位精度"},
	"address":                {"address", "地址"},
	"as_of_time":             {"time", "查询时间"},
	"cancelled_event_count":  {"number of cancelled events", "劝阻活动数"},
	"capture_time":           {"time of the visit", "检查时间"},
	"check_in":               {"check-in", "检查记录"},
	"check_in_id":            {"check-in id", "检查编号"},
	"client_time":            {"phone's time", "手机时间"},
	"closure_order":          {"closure order", "暂停开放通知"},
	"closure_order_id":       {"closure order", "暂停开放通知"},
	"code":                   {"division code", "区划代码"},
	"content_type":           {"type of the photo", "照片格式"},
	"data":                   {"photo", "照片内容"},
	"datum":                  {"datum", "坐标系"},
	"depth":                  {"depth", "层级深度"},
	"deregistered_on":        {"last day of the registration", "注销日期"},
	"deregistered_time":      {"end of the registration", "注销时间"},
	"device_name":            {"device name", "设备名称"},
	"device_token":           {"device token", "设备凭证"},
	"dispersed_people_count": {"number of dispersed people", "劝离人数"},
	"display_name":           {"person's name", "姓名"},
	"distance_m":             {"distance", "距离"},
	"division_code":          {"division", "行政区划"},
	"division_codes":         {"divisions", "行政区划"},
	"dry_run":                {"dry run", "试运行"},
	"duty_staff_present":     {"staff on duty", "值守情况"},
	"effective_date":         {"first day", "生效日期"},
	"effective_time":         {"time of the change", "生效时间"},
	"end_time":               {"end", "结束时间"},
	"etag":                   {"etag", "版本标记"},
	"finding":                {"finding", "检查结果"},
	"first_check_in_id":      {"earlier check-in", "首次检查记录"},
	"first_site_id":          {"earlier site", "首次检查场所"},
	"flag":                   {"flag", "标记"},
	"flags":                  {"flags", "标记"},
	"force":                  {"force", "强制执行"},
	"found_open":             {"found open", "发现开放"},
	"header":                 {"header", "表头信息"},
	"height":                 {"height of the photo", "照片高度"},
	"in_force_time":          {"time", "查询时间"},
	"include_records":        {"with records", "包含原始记录"},
	"inspection_interval":    {"inspection interval", "检查间隔"},
	"issuing_authority":      {"issuing authority", "发文机关"},
	"known_time":             {"time as known at", "数据截止时间"},
	"latitude":               {"latitude", "纬度"},
	"legal_basis":            {"legal basis", "法律依据"},
	"level":                  {"level", "级别"},
	"location":               {"location", "位置"},
	"longitude":              {"longitude", "经度"},
	"name":                   {"name", "名称"},
	"new_password":           {"new password", "新密码"},
	"note":                   {"note", "备注"},
	"number":                 {"number", "文号"},
	"offset":                 {"offset", "上传位置"},
	"old_password":           {"old password", "原密码"},
	"page_size":              {"page size", "每页数量"},
	"page_token":             {"page token", "分页标记"},
	"parent_code":            {"code of the division above", "上级区划代码"},
	"part":                   {"message", "消息内容"},
	"password":               {"password", "密码"},
	"photos":                 {"photos", "照片"},
	"planned_end_time":       {"planned end", "计划结束时间"},
	"reason":                 {"reason", "原因"},
	"refresh_token":          {"refresh token", "刷新令牌"},
	"refused_reason":         {"refusal of the photo", "照片拒收原因"},
	"reused":                 {"earlier use of the photo", "照片曾被使用"},
	"registered_on":          {"first day of the registration", "登记日期"},
	"registered_time":        {"time of the registration", "登记时间"},
	"registration_no":        {"registration number", "登记编号"},
	"request_id":             {"request id", "请求编号"},
	"retry_id":               {"retry id", "重试编号"},
	"revision":               {"revision", "修订号"},
	"role":                   {"role", "角色"},
	"row":                    {"rows", "数据行"},
	"sha256":                 {"hash of the photo", "照片哈希值"},
	"site":                   {"site", "场所"},
	"site_id":                {"site", "场所"},
	"size_bytes":             {"size of the photo", "照片大小"},
	"source":                 {"name of the table", "表格名称"},
	"spec":                   {"declaration of the photo", "照片申报信息"},
	"start_time":             {"start", "开始时间"},
	"state":                  {"state", "状态"},
	"title":                  {"title", "标题"},
	"username":               {"username", "用户名"},
	"variant":                {"variant", "照片版本"},
	"width":                  {"width of the photo", "照片宽度"},
	"create_time":            {"time of creation", "创建时间"},
	"disable_time":           {"time of disabling", "停用时间"},
}

// called returns what the field with the path is called, and of what list or row it is.
func called(path string) word {
	parts := strings.Split(path, ".")
	var out word
	for i, part := range parts {
		name, index, listed := strings.Cut(strings.TrimSuffix(part, "]"), "[")
		if i < len(parts)-1 && !listed {
			continue // a message that the request is about, or a part of that
		}
		w, ok := fieldWords[name]
		if !ok {
			w = word{part, part}
		}
		if n, err := strconv.Atoi(index); err == nil && name == "row" { // as its sender counts
			w = word{fmt.Sprintf("row %d", n), fmt.Sprintf("第%d行", n)}
		} else if err == nil {
			w = word{fmt.Sprintf("%s (no. %d)", w.en, n+1), fmt.Sprintf("%s（第%d项）", w.zh, n+1)}
		}
		if out.en != "" {
			w = word{out.en + ", " + w.en, out.zh + "，" + w.zh}
		}
		out = w
	}
	return out
}

// said returns the sentences for what is wrong with a field.
func said(path string, err error) word {
	field, limit := called(path), limitOf(err)
	first, size := utf8.DecodeRuneInString(field.en)
	en, zh := string(unicode.ToUpper(first))+field.en[size:], field.zh
	least, most := spellBound(limit.least), spellBound(limit.most)
	tooLong, outOfRange := errors.Is(err, sites.ErrTooLong), errors.Is(err, sites.ErrOutOfRange)
	switch {
	case errors.Is(err, sites.ErrMissing):
		return word{en + ": this is missing.", "缺少" + zh + "。"}
	case tooLong && limit.most != nil:
		unit := units[limit.unit]
		return word{fmt.Sprintf("%s: at most %s %s are allowed.", en, most.en, unit.en), fmt.Sprintf("%s：最多%s%s。", zh, most.zh, unit.zh)}
	case outOfRange && limit.least != nil && limit.most != nil:
		return word{fmt.Sprintf("%s: this must lie between %s and %s.", en, least.en, most.en), fmt.Sprintf("%s：须在%s至%s之间。", zh, least.zh, most.zh)}
	case outOfRange && limit.least != nil:
		return word{fmt.Sprintf("%s: this must be at least %s.", en, least.en), fmt.Sprintf("%s：不得小于%s。", zh, least.zh)}
	case outOfRange && limit.most != nil:
		return word{fmt.Sprintf("%s: this must be at most %s.", en, most.en), fmt.Sprintf("%s：不得大于%s。", zh, most.zh)}
	}
	m := meaningOf(err)
	if value := (*sites.ValueError)(nil); errors.As(err, &value) && m.reason == xunchav1.ErrorReason_ERROR_REASON_INVALID_FIELD {
		return word{en + " " + value.Error() + ".", zh + "：" + m.zh} // which goes on from the field's name
	}
	return word{en + ": " + m.en, zh + "：" + m.zh}
}

// plain are the meanings that say nothing without the field that they are about.
var plain = map[xunchav1.ErrorReason]bool{
	xunchav1.ErrorReason_ERROR_REASON_MISSING_FIELD: true,
	xunchav1.ErrorReason_ERROR_REASON_OUT_OF_RANGE:  true,
	xunchav1.ErrorReason_ERROR_REASON_TOO_LONG:      true,
	xunchav1.ErrorReason_ERROR_REASON_MALFORMED_ID:  true,
	xunchav1.ErrorReason_ERROR_REASON_INVALID_UTF8:  true,
	xunchav1.ErrorReason_ERROR_REASON_INVALID_FIELD: true,
}

// saidOfAll returns the meaning with the sentences for an error about the fields.
func (m meaning) saidOfAll(fields sites.FieldErrors) meaning {
	n := len(fields)
	if n > 1 || n == 1 && plain[m.reason] {
		w := said(fields[0].Field, fields[0].Err)
		m.en, m.zh = w.en, w.zh
	}
	switch {
	case n == 2:
		m.en, m.zh = m.en+" One more field is wrong.", m.zh+"另有1处错误。"
	case n > 2:
		m.en, m.zh = m.en+fmt.Sprintf(" %d more fields are wrong.", n-1), m.zh+fmt.Sprintf("另有%d处错误。", n-1)
	}
	return m
}

var units = map[sites.Unit]word{
	sites.Characters: {"characters", "个字符"},
	sites.Items:      {"items", "项"},
	sites.Bytes:      {"bytes", "字节"},
}

// spellBound writes a bound as people read it.
func spellBound(v any) word {
	switch v := v.(type) {
	case time.Duration:
		if n := v / (24 * time.Hour); n > 1 && v%(24*time.Hour) == 0 {
			return word{fmt.Sprintf("%d days", n), fmt.Sprintf("%d天", n)}
		}
		if n := v / time.Hour; n > 0 && v%time.Hour == 0 {
			if n == 1 {
				return word{"1 hour", "1小时"}
			}
			return word{fmt.Sprintf("%d hours", n), fmt.Sprintf("%d小时", n)}
		}
	case time.Time:
		text := v.Format("2006-01-02 15:04 -07:00")
		return word{text, text}
	case float64:
		return word{fmt.Sprintf("%.15g", v), fmt.Sprintf("%.15g", v)}
	}
	return word{fmt.Sprint(v), fmt.Sprint(v)}
}

// A limit is what bounds a value; nil where nothing does.
type limit struct {
	least, most any
	unit        sites.Unit
}

// limitOf returns the limit that the error names.
func limitOf(err error) limit {
	var value *sites.ValueError
	var rule *ruleViolation
	switch {
	case errors.As(err, &value):
		return limit{value.Least, value.Most, value.Unit}
	case errors.As(err, &rule):
		return rule.limit
	}
	return limit{}
}

// limitOfRules returns what the rules of a field in its .proto file bound it by.
func limitOfRules(d protoreflect.FieldDescriptor) (out limit) {
	if d == nil {
		return out
	}
	rules, _ := proto.GetExtension(d.Options(), validate.E_Field).(*validate.FieldRules)
	if rules == nil {
		return out
	}
	m := rules.ProtoReflect()
	of := m.WhichOneof(m.Descriptor().Oneofs().ByName("type"))
	if of == nil {
		return out
	}
	m.Get(of).Message().Range(func(rule protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch rule.Name() {
		case "gte":
			out.least = v.Interface()
		case "lte":
			out.most = v.Interface()
		case "max_len":
			out.most, out.unit = v.Interface(), sites.Characters
		case "max_items":
			out.most, out.unit = v.Interface(), sites.Items
		case "max_bytes":
			out.most, out.unit = v.Interface(), sites.Bytes
		}
		return true
	})
	return out
}
