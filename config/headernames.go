package config

import (
	"slices"
	"strings"
)

// standardHeader reports whether a folded name is registered (IANA HTTP field names), is dropped between hops (RFC 9110
// 7.6.1), or is one that browsers, proxies and app servers give a meaning.
func standardHeader(folded string) bool {
	for _, prefix := range []string{"sec-", "proxy-", "access-control-", "x-forwarded-", "x-original-", "x-envoy-", "x-amzn-", "cf-"} {
		if strings.HasPrefix(folded, prefix) {
			return true
		}
	}
	return slices.Contains(strings.Fields(standardNames), folded)
}

const standardNames = `
a-im accept accept-additions accept-ch accept-charset accept-datetime accept-encoding accept-features accept-language
accept-patch accept-post accept-query accept-ranges accept-signature age allow allowed alpn alt-svc alt-used alternates
apply-to-redirect-ref authentication-control authentication-info authorization available-dictionary
baggage cache-control cache-status cal-managed-id caldav-timezones capsule-protocol cdn-cache-control cdn-loop
cert-not-after cert-not-before clear-site-data client-cert client-cert-chain close connection content-digest
content-disposition content-encoding content-id content-language content-length content-location content-md5 content-range
content-script-type content-security-policy content-security-policy-report-only content-style-type content-type
content-version cookie cookie2 cross-origin-embedder-policy cross-origin-embedder-policy-report-only
cross-origin-opener-policy cross-origin-opener-policy-report-only cross-origin-resource-policy
dasl date dav default-style delta-base deprecation depth derived-from destination device-memory dictionary-id
differential-id digest dnt dpop dpop-nonce early-data etag expect expect-ct expires ext
forwarded from front-end-https getprofile hobareg host http2-settings
if if-match if-modified-since if-none-match if-range if-schedule-tag-match if-unmodified-since im
include-referred-token-binding-id isolation keep-alive label last-event-id last-event-id last-modified link
link-template location lock-token man max-forwards memento-datetime meter method-check method-check-expires mime-version
negotiate nel odata-entityid odata-isolation odata-maxversion odata-version opt optional-www-authenticate ordering-type
origin origin-agent-cluster oscore oslc-core-version overwrite
p3p pep pep-info permissions-policy pics-label ping-from ping-to position pragma prefer preference-applied priority
profileobject protocol protocol-info protocol-query protocol-request public public-key-pins public-key-pins-report-only
range redirect-ref referer referer-root referrer referrer-policy refresh repeatability-client-id
repeatability-first-sent repeatability-request-id repeatability-result replay-nonce reporting-endpoints
repr-digest retry-after safe save-data schedule-reply schedule-tag security-scheme server server-timing set-cookie
set-cookie2 setprofile signature signature-input slug soapaction status status-uri
strict-transport-security sunset surrogate-capability surrogate-control
tcn te timeout timing-allow-origin tk topic traceparent tracestate trailer transfer-encoding true-client-ip ttl
upgrade upgrade-insecure-requests uri urgency use-as-dictionary user-agent
variant-vary vary via want-content-digest want-digest want-repr-digest warning www-authenticate
x-accel-buffering x-accel-expires x-accel-redirect x-api-key x-client-ip x-cluster-client-ip x-content-type-options
x-correlation-id x-csrf-token x-csrftoken x-dns-prefetch-control x-frame-options x-host x-http-method
x-http-method-override x-method-override x-permitted-cross-domain-policies x-powered-by x-real-ip x-remote-user
x-request-id x-requested-with x-rewrite-url x-robots-tag x-sendfile x-ua-compatible x-xsrf-token x-xss-protection
remote-user
`
