package coverage

// KeepLittle lets the index keep as little as it can, so that what it does in a country
// happens in a village: few places have figures of their own, hardly any views are kept,
// and hardly any changes noted.
func (x *Index) KeepLittle(sites int32) {
	x.limits = limits{views: 2, viewBytes: 1 << 20, pending: 1, layouts: 1, refresh: 2, few: few{sites: sites}}
}

// Views returns how many views are kept.
func (x *Index) Views() int { return len(x.views) }
