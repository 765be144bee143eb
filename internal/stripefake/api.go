package stripefake

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenantgate/tenantgate/internal/secret"
)

const (
	typeInvalid     = "invalid_request_error"
	typeIdempotency = "idempotency_error"
	typeAPI         = "api_error"
)

// apiError is the error of a response.
type apiError struct {
	status  int    // 0: 400
	Type    string `json:"type"`
	Code    string `json:"code,omitempty"`
	Param   string `json:"param,omitempty"`
	Message string `json:"message"`
}

func missing(kind, id string) *apiError {
	return &apiError{
		status: http.StatusNotFound, Type: typeInvalid, Code: "resource_missing", Param: "id",
		Message: "No such " + kind + ": '" + id + "'",
	}
}

func invalid(param, message string) *apiError {
	return &apiError{Type: typeInvalid, Param: param, Message: message}
}

// Fault befalls one API request.
type Fault struct {
	// Status is the answer: 429, 500, 503 …; 0 with Cut or Hang.
	Status int
	// RetryAfter is sent with it, in whole seconds; 0: not sent.
	RetryAfter time.Duration
	// Delay passes before anything else happens, by the real clock.
	Delay time.Duration
	// Done: the request has its effect, and only the answer is lost.
	Done bool
	// Cut ends the connection in the midst of the answer, Hang answers nothing until the client has gone.
	Cut, Hang bool
}

// SetFaults calls f for every API request; what it returns befalls the request, nil does not. Nil: no faults.
func (s *Server) SetFaults(f func(*http.Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// call is one request to the API.
type call struct {
	s       *Server
	p       *params
	live    bool
	version string
	id      string // of the path
	request string // its Request-Id
	idemKey string
}

// handler answers a call with an object or an error. It takes all parameters before it changes anything.
type handler func(*call) (object, *apiError)

// resource is a path and what can be done with it.
type resource struct {
	path     string // {} stands for an id
	get, put handler
	remove   handler
}

func (s *Server) resources() []resource {
	return []resource{
		{path: "account", get: (*call).account},
		{path: "customers", get: (*call).listCustomers, put: (*call).createCustomer},
		{path: "customers/{}", get: (*call).getCustomer, put: (*call).updateCustomer, remove: (*call).deleteCustomer},
		{path: "products", get: (*call).listProducts, put: (*call).createProduct},
		{path: "products/{}", get: getter("product"), put: (*call).updateProduct},
		{path: "prices", get: (*call).listPrices, put: (*call).createPrice},
		{path: "prices/{}", get: getter("price"), put: (*call).updatePrice},
		{path: "checkout/sessions", get: (*call).listCheckouts, put: (*call).createCheckout},
		{path: "checkout/sessions/{}", get: getter("checkout.session")},
		{path: "checkout/sessions/{}/expire", put: (*call).expireCheckout},
		{path: "billing_portal/sessions", put: (*call).createPortal},
		{path: "subscriptions", get: (*call).listSubscriptions, put: (*call).createSubscription},
		{path: "subscriptions/{}", get: getter("subscription"), put: (*call).updateSubscription, remove: (*call).cancelSubscription},
		{path: "subscriptions/{}/resume", put: (*call).resumeSubscription},
		{path: "invoices", get: (*call).listInvoices},
		{path: "invoices/{}", get: getter("invoice")},
		{path: "invoices/{}/pay", put: (*call).payInvoice},
		{path: "events", get: (*call).listEvents},
		{path: "events/{}", get: (*call).getEvent},
	}
}

func getter(kind string) handler {
	return func(c *call) (object, *apiError) {
		if err := c.p.done(); err != nil {
			return nil, err
		}
		o := c.s.get(kind, c.live, c.id)
		if o == nil {
			return nil, c.absent(kind)
		}
		return o, nil
	}
}

// absent says that there is no such object, and, as Stripe does, that there is one in the other mode.
func (c *call) absent(kind string) *apiError {
	err := missing(kind, c.id)
	if c.s.get(kind, !c.live, c.id) != nil {
		there, here := "live", "test"
		if c.live {
			there, here = here, there
		}
		err.Message += "; a similar object exists in " + there + " mode, but a " + here + " mode key was used to make this request."
	}
	return err
}

func (c *call) account() (object, *apiError) {
	return object{"id": "acct_1Fake", "object": "account", "country": "US", "default_currency": "usd"}, c.p.done()
}

// find returns the handler of a request and the id in its path.
func (s *Server) find(method, path string) (handler, string) {
	parts := strings.Split(path, "/")
	for _, r := range s.resources() {
		pattern := strings.Split(r.path, "/")
		id, ok := match(pattern, parts)
		if !ok {
			continue
		}
		switch method {
		case http.MethodGet:
			return r.get, id
		case http.MethodPost:
			return r.put, id
		case http.MethodDelete:
			return r.remove, id
		}
	}
	return nil, ""
}

func match(pattern, parts []string) (id string, ok bool) {
	if len(pattern) != len(parts) {
		return "", false
	}
	for i, p := range pattern {
		switch {
		case p == "{}" && parts[i] != "":
			id = parts[i]
		case p != parts[i]:
			return "", false
		}
	}
	return id, true
}

func (s *Server) api(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.answer(w, r, "", nil, &apiError{status: http.StatusRequestEntityTooLarge, Type: typeInvalid, Message: "Request too large."})
		return
	}
	s.mu.Lock()
	f := s.fault
	s.mu.Unlock()
	var fault *Fault
	if f != nil {
		fault = f(r)
	}
	if fault != nil && !befall(w, r, fault) {
		s.note(r, fault.Status)
		return
	}
	s.mu.Lock()
	reply := s.perform(r, body)
	if fault != nil {
		reply.status = fault.Status
	}
	s.remember(Request{r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), reply.status})
	s.mu.Unlock()
	s.wake()
	if fault != nil {
		fail(w, r, fault)
		return
	}
	reply.write(w)
}

// befall waits and, unless the request is to have its effect, answers it; then it returns false.
func befall(w http.ResponseWriter, r *http.Request, f *Fault) bool {
	if f.Delay > 0 && !pause(r.Context(), f.Delay) {
		return false
	}
	if f.Done || (f.Status == 0 && !f.Cut && !f.Hang) {
		return true
	}
	fail(w, r, f)
	return false
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

func fail(w http.ResponseWriter, r *http.Request, f *Fault) {
	switch {
	case f.Hang:
		<-r.Context().Done()
		return
	case f.Cut:
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, `{"id": "`)
		if fl, ok := w.(http.Flusher); ok {
			fl.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	if f.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	err := &apiError{status: f.Status, Type: typeAPI, Message: "Something went wrong on our side."}
	if f.Status == http.StatusTooManyRequests {
		err = &apiError{status: f.Status, Type: typeInvalid, Code: "rate_limit", Message: "Too many requests. Please try again later."}
	}
	errorReply(err, newID("req")).write(w)
}

// reply is a finished answer.
type reply struct {
	status  int
	body    []byte
	request string
	replays bool
}

func (r reply) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", r.request)
	if r.replays {
		w.Header().Set("Idempotent-Replayed", "true")
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body)
}

func errorReply(err *apiError, request string) reply {
	status := err.status
	if status == 0 {
		status = http.StatusBadRequest
	}
	body, _ := json.MarshalIndent(map[string]any{"error": err}, "", "  ")
	return reply{status: status, body: body, request: request}
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, request string, o object, err *apiError) {
	rep := makeReply(o, err, request)
	s.note(r, rep.status)
	rep.write(w)
}

func makeReply(o object, err *apiError, request string) reply {
	if err != nil {
		return errorReply(err, request)
	}
	body, merr := json.MarshalIndent(o, "", "  ")
	if merr != nil {
		return errorReply(&apiError{status: http.StatusInternalServerError, Type: typeAPI, Message: "no JSON"}, request)
	}
	return reply{status: http.StatusOK, body: body, request: request}
}

func (s *Server) note(r *http.Request, status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(Request{r.Method, r.URL.Path, r.Header.Get("Idempotency-Key"), status})
}

func (s *Server) remember(r Request) {
	if len(s.requests) == maxRequests {
		s.requests = slices.Delete(s.requests, 0, maxRequests/2)
	}
	s.requests = append(s.requests, r)
}

// replay is the first answer to an idempotency key.
type replay struct {
	what [sha256.Size]byte
	at   time.Time
	reply
}

// perform answers a request under the lock.
func (s *Server) perform(r *http.Request, body []byte) reply {
	s.settle()
	request := newID("req")
	key, err := s.authenticate(r)
	if err != nil {
		return errorReply(err, request)
	}
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	if err := key.allows(r.Method, path); err != nil {
		return errorReply(err, request)
	}
	values, perr := url.ParseQuery(r.URL.RawQuery)
	if perr == nil && len(body) > 0 {
		var form url.Values
		form, perr = url.ParseQuery(string(body))
		for k, v := range form {
			values[k] = append(values[k], v...)
		}
	}
	if perr != nil {
		return errorReply(invalid("", "Invalid request parameters."), request)
	}
	do, id := s.find(r.Method, path)
	if do == nil {
		return errorReply(&apiError{
			status: http.StatusNotFound, Type: typeInvalid, Message: "Unrecognized request URL (" + r.Method + ": " + r.URL.Path + ").",
		}, request)
	}
	idem := r.Header.Get("Idempotency-Key")
	what := sha256.Sum256(slices.Concat([]byte(r.Method+" "+r.URL.Path+"\x00"), []byte(values.Encode())))
	slot := key.Secret.Reveal() + "\x00" + idem
	if old, ok := s.idem[slot]; ok && idem != "" && r.Method == http.MethodPost && s.now().Sub(old.at) < idemKept {
		if old.what != what {
			return errorReply(&apiError{
				Type: typeIdempotency, Message: "Keys for idempotent requests can only be used with the same parameters they were first used with.",
			}, request)
		}
		again := old.reply
		again.replays = true
		return again
	}
	c := &call{s: s, p: newParams(values), live: key.Live, version: r.Header.Get("Stripe-Version"), id: id, request: request, idemKey: idem}
	if c.version == "" {
		c.version = s.cfg.APIVersion
	}
	o, aerr := do(c)
	if aerr == nil {
		o, aerr = c.expand(shaped(o, c.version), c.p.list("expand"))
	}
	rep := makeReply(o, aerr, request)
	if idem != "" && r.Method == http.MethodPost && aerr == nil {
		s.idem[slot] = replay{what: what, at: s.now(), reply: rep}
	}
	return rep
}

func (s *Server) authenticate(r *http.Request) (Key, *apiError) {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if user, _, basic := r.BasicAuth(); basic {
		text, ok = user, true
	}
	given := secret.New(text)
	for _, k := range s.cfg.Keys {
		if ok && k.Secret.Equal(given) {
			return k, nil
		}
	}
	if !ok || text == "" {
		return Key{}, &apiError{status: http.StatusUnauthorized, Type: typeInvalid, Message: "You did not provide an API key."}
	}
	// Stripe repeats the beginning and the end of what was sent.
	shown := text
	if len(text) > 12 {
		shown = text[:8] + strings.Repeat("*", len(text)-12) + text[len(text)-4:]
	}
	return Key{}, &apiError{status: http.StatusUnauthorized, Type: typeInvalid, Message: "Invalid API Key provided: " + shown}
}

// allows says whether a restricted key may do that.
func (k Key) allows(method, path string) *apiError {
	if k.May == nil {
		return nil
	}
	parts := strings.Split(path, "/")
	name := parts[0]
	if (name == "checkout" || name == "billing_portal") && len(parts) > 1 {
		name += "/" + parts[1]
	}
	if slices.Contains(k.May, name+":write") || (method == http.MethodGet && slices.Contains(k.May, name+":read")) {
		return nil
	}
	need := "write"
	if method == http.MethodGet {
		need = "read"
	}
	return &apiError{
		status: http.StatusForbidden, Type: typeInvalid, Code: "more_permissions_required_for_application",
		Message: "The provided key does not have the required permissions for this endpoint. Having the '" + name + ":" + need + "' permission would allow this request to continue.",
	}
}

// expand puts objects in the place of their ids along each dotted path.
func (c *call) expand(o object, paths []string) (object, *apiError) {
	for _, p := range paths {
		if strings.Count(p, ".") > 4 {
			return nil, invalid("expand", "You cannot expand more than 4 levels of a property.")
		}
		if !c.expandInto(o, strings.Split(p, ".")) {
			return nil, invalid("expand", "This property cannot be expanded ("+p+").")
		}
	}
	return o, nil
}

func (c *call) expandInto(v any, path []string) bool {
	if list, ok := v.([]any); ok {
		for _, e := range list {
			if !c.expandInto(e, path) {
				return false
			}
		}
		return true
	}
	o, ok := v.(object)
	if !ok {
		return v == nil
	}
	name := path[0]
	child, known := o[name]
	if !known {
		return false
	}
	if id, isID := child.(string); isID {
		e := c.s.entries[id]
		if e == nil {
			return false
		}
		child = shaped(e.now, c.version)
		if e.gone {
			child = object{"id": id, "object": e.kind, "deleted": true}
		}
		o[name] = child
	}
	if len(path) == 1 || child == nil {
		return true
	}
	return c.expandInto(child, path[1:])
}

// list answers with a page of the objects of that kind that keep says yes to, newest first.
func (c *call) list(kind, path string, keep func(object) bool) (object, *apiError) {
	limit := c.p.whole("limit")
	after, before := c.p.text("starting_after"), c.p.text("ending_before")
	gt, gte := c.p.whole("created[gt]"), c.p.whole("created[gte]")
	lt, lte := c.p.whole("created[lt]"), c.p.whole("created[lte]")
	if err := c.p.done(); err != nil {
		return nil, err
	}
	if limit == 0 {
		limit = 10
	}
	if limit < 1 || limit > 100 {
		return nil, invalid("limit", "Invalid limit: must be between 1 and 100.")
	}
	for _, cursor := range []string{after, before} {
		if e := c.s.entries[cursor]; cursor != "" && (e == nil || e.kind != kind || e.live != c.live) {
			return nil, missing(kind, cursor)
		}
	}
	var all []object
	started := after == ""
	for _, id := range slices.Backward(c.s.order[kind]) {
		if id == before {
			break
		}
		e := c.s.entries[id]
		if o := c.s.seen(e); started && e.live == c.live && o != nil && keep(o) {
			at := o.whole("created")
			if (gt == 0 || at > gt) && at >= gte && (lt == 0 || at < lt) && (lte == 0 || at <= lte) {
				all = append(all, o)
			}
		}
		started = started || id == after
	}
	more := len(all) > int(limit)
	if more && before != "" {
		all = all[len(all)-int(limit):]
	} else if more {
		all = all[:limit]
	}
	data := make([]any, len(all))
	for i, o := range all {
		data[i] = o
	}
	return object{"object": "list", "url": "/v1/" + path, "has_more": more, "data": data}, nil
}
