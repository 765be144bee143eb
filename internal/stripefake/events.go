package stripefake

// emit records that something happened, shows the object as it is now, and queues the event for every endpoint that
// wants it.
func (s *Server) emit(c *call, kind string, o, was object) {
	e := s.entries[o.text("id")]
	data := object{"object": clone(o)}
	if was != nil {
		data["previous_attributes"] = clone(was)
	}
	request := object{"id": nil, "idempotency_key": nil}
	if c != nil {
		request["id"], request["idempotency_key"] = c.request, orNull(c.idemKey)
	}
	event := s.add("event", e.live, object{
		"type": kind, "api_version": s.cfg.APIVersion, "data": data, "request": request, "pending_webhooks": int64(len(s.endpoints)),
	})
	for i, at := range s.endpoints {
		if at.wants(kind, e.live) {
			s.pending = append(s.pending, Delivery{Event: event.text("id"), Type: kind, Object: o.text("id"), endpoint: i})
		}
	}
}

func (s *Server) listed(o object) bool { return s.now().Sub(o.when("created")) < eventsKept }

func (c *call) listEvents() (object, *apiError) {
	kind, kinds := c.p.text("type"), c.p.list("types")
	failed := c.p.flag("delivery_success")
	return c.list("event", "events", func(o object) bool {
		if !c.s.listed(o) || (kind != "" && o.text("type") != kind) {
			return false
		}
		if failed != nil && c.s.delivered(o.text("id")) != *failed {
			return false
		}
		for i, k := range kinds {
			if k == o.text("type") {
				break
			}
			if i == len(kinds)-1 {
				return false
			}
		}
		return true
	})
}

func (c *call) getEvent() (object, *apiError) {
	o, err := getter("event")(c)
	if err == nil && !c.s.listed(o) {
		return nil, missing("event", c.id)
	}
	return o, err
}

// delivered reports whether every endpoint has taken the event.
func (s *Server) delivered(event string) bool {
	for _, d := range s.pending {
		if d.Event == event {
			return false
		}
	}
	return true
}
