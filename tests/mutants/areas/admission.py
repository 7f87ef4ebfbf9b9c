"""Admission before anything is read: slots, rates, bodies, slow clients; also the limits of
parsing.
"""

from tests.mutants.mutant import Area, Mutant

_GATE = ("tests/unit/web/admission/test_layer.py",)
_RATES = ("tests/contracts/test_rates.py",)
_NAMES = ("tests/unit/streams/test_addresses.py",)
_PLACES = ("tests/unit/streams/limits/test_occupancy.py",)
_STALLED = ("tests/unit/streams/limits/test_stalled.py", "tests/integration/test_stalled.py")
_CENSUS = ("tests/unit/web/http/test_census.py", "tests/unit/web/http/test_bodies.py")
_LARGE = ("tests/unit/web/http/test_aside.py",)
_SOCKET = (
    "tests/integration/test_chat_socket.py",
    "tests/integration/test_admission_sockets.py",
)
_BODIES = ("tests/unit/web/http/test_receiving.py", "tests/integration/test_admission.py")
_KEPT = ("tests/integration/test_kept_bodies.py",)
_RECOUNT = (
    "tests/contracts/test_quotas.py::test_a_wrong_sum_is_corrected",
    "tests/contracts/test_quotas.py::test_a_post_during_a_recount_is_counted_once",
)
_UNREAD = (
    "tests/unit/web/http/test_sending.py",
    "tests/unit/web/http/test_receiving.py",
    "tests/integration/test_admission.py::test_unread_answers_share_memory",
    "tests/integration/test_admission.py::test_an_answer_above_the_share_can_be_read",
)
_COSTS = ("tests/unit/web/admission/test_costs.py",)
_PAGES = (
    "tests/contracts/test_pages.py::test_a_page_is_measured_as_json",
    "tests/contracts/test_pages.py::test_a_page_of_long_texts_is_short",
    "tests/contracts/test_pages.py::test_a_page_of_long_instructions_is_short",
    "tests/contracts/test_pages.py::test_a_page_of_long_input_is_short",
)

AREA = Area(
    "admission",
    ("tests/integration/test_admission.py", "tests/integration/test_admission_sockets.py"),
    [
        Mutant(
            "any_path_is_public",
            "web/admission/costs.py",
            "return path in PUBLIC or path",
            'return path in PUBLIC or path.startswith("/v1/") or path',
        ),
        Mutant(
            "a_token_opens_everything",
            "web/admission/layer.py",
            'if request.method not in ("GET", "HEAD") or not _EVENTS.fullmatch(request.url.path):',
            "if not request:",
            _GATE,
        ),
        Mutant(
            "a_token_is_a_login",
            "web/admission/layer.py",
            "Caller(granted, address, login=False)",
            "Caller(granted, address)",
            _GATE,
        ),
        Mutant(
            "users_have_no_limit",
            "web/admission/layer.py",
            "                stack.enter_context(self._users.held(caller.user))\n",
            "",
        ),
        Mutant(
            "addresses_have_no_limit",
            "web/admission/layer.py",
            "                stack.enter_context(self._addresses.held(caller.address))\n",
            "",
        ),
        Mutant(
            "newcomers_of_an_address_have_no_limit",
            "web/admission/newcomers.py",
            "len(self._addresses.get(address, ())) >= self._most_of_address",
            "False",
            _SOCKET,
        ),
        Mutant(
            "newcomers_have_no_limit",
            "web/admission/newcomers.py",
            "        if len(self._all) >= self._most:\n",
            "        if False:\n",
            _SOCKET,
        ),
        Mutant(
            "the_newest_makes_room",
            "web/admission/newcomers.py",
            "next(iter(self._all))",
            "next(reversed(self._all))",
            _SOCKET,
        ),
        Mutant(
            "who_makes_room_stays",
            "web/admission/newcomers.py",
            "        one.leave()\n",
            "",
            _SOCKET,
        ),
        Mutant(
            "who_has_logged_in_is_new_for_ever",
            "web/admission/layer.py",
            "        self._waiting.close()\n",
            "",
            _SOCKET,
        ),
        Mutant(
            "a_request_is_a_login",
            "web/aisdk/socket.py",
            "            if self._seat.user is None:\n",
            "            if False:\n",
            _SOCKET,
        ),
        Mutant(
            "a_login_may_come_in_pieces",
            "web/http/sockets.py",
            "frame.opcode is not Opcode.TEXT or not frame.fin",
            "False",
            _SOCKET,
        ),
        Mutant(
            "any_number_of_messages",
            "web/http/sockets.py",
            "if not self._budget(frame).spend(self._clock()):",
            "if False:",
            _SOCKET,
        ),
        Mutant(
            "a_pong_for_everybody",
            "web/http/sockets.py",
            "        if self.writable.is_set():\n            self.transport.write(pong)",
            "        if True:\n            self.transport.write(pong)",
            _SOCKET,
        ),
        Mutant(
            "a_message_may_stop_coming",
            "web/http/sockets.py",
            "            self._watch(unfinished)\n",
            "            pass\n",
            _SOCKET,
        ),
        Mutant(
            "what_is_being_understood_counts_no_more",
            "web/http/sockets.py",
            "+ self._read)",
            ")",
            _SOCKET,
        ),
        Mutant(
            "short_frames_are_mended_at_once", "web/aisdk/socket.py", ", mend=False)", ")", _SOCKET
        ),
        Mutant(
            "the_parser_keeps_a_frame",
            "web/http/sockets.py",
            '        event.data = b""  # the parser',
            "        pass  # the parser",
            _KEPT,
        ),
        Mutant(
            "an_answer_keeps_its_frame",
            "web/aisdk/socket.py",
            "        del frame  #",
            "        pass  #",
            _KEPT,
        ),
        Mutant(
            "a_body_may_pause",
            "web/http/receiving.py",
            "min(self.gap, min(",
            "min(1e9, min(",
            _BODIES,
        ),
        Mutant(
            "a_body_may_take_for_ever",
            "web/http/receiving.py",
            "SLOWEST_BYTES_PER_SECOND, self.most)",
            "SLOWEST_BYTES_PER_SECOND, 1e9)",
            _BODIES,
        ),
        Mutant(
            "large_bodies_take_all_the_memory",
            "web/http/receiving.py",
            "Occupancy(limit - self.share)",
            "Occupancy(limit)",
        ),
        Mutant(
            "a_large_body_counts_as_small",
            "web/http/receiving.py",
            "        if large:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_place_is_never_left",
            "streams/limits/occupancy.py",
            "        finally:\n            self.release(name)\n",
            "        finally:\n            pass\n",
        ),
        Mutant(
            "one_place_too_many",
            "streams/limits/occupancy.py",
            "+ amount > self._limit",
            "+ amount > self._limit + 1",
            _PLACES,
        ),
        Mutant(
            "what_is_refused_is_taken",
            "streams/limits/occupancy.py",
            "            raise Full(name)\n",
            "            self._taken[name] += amount\n            raise Full(name)\n",
            _PLACES,
        ),
        Mutant(
            "one_post_too_many",
            "streams/limits/rates.py",
            "allowed = len(hits) < limit",
            "allowed = len(hits) <= limit",
            _RATES,
        ),
        Mutant(
            "what_is_refused_counts",
            "streams/limits/rates.py",
            "        if allowed:\n            hits.append(now)\n",
            "        hits.append(now)\n",
            _RATES,
        ),
        Mutant(
            "hits_are_never_forgotten",
            "streams/limits/rates.py",
            "            hits.popleft()\n",
            "            break\n",
            _RATES,
        ),
        Mutant(
            "redis_is_asked_again_at_once",
            "streams/limits/rates.py",
            "self._asked_again_at = self._clock() + PAUSE_SECONDS",
            "pass",
            _RATES,
        ),
        Mutant(
            "a_redis_that_hangs_fails_the_request",
            "streams/limits/rates.py",
            "except (redis.RedisError, OSError, TimeoutError) as error:",
            "except redis.RedisError as error:",
            _RATES,
        ),
        Mutant(
            "too_many_posts_are_let_in",
            "web/admission/layer.py",
            """not checks[
                kind
            ].allowed""",
            "False",
        ),
        Mutant(
            "the_address_is_not_counted",
            "web/admission/layer.py",
            """            if not checks[
""",
            """            if checks[
""",
        ),
        Mutant(
            "posts_are_not_counted",
            "web/admission/layer.py",
            '            case "posts":\n',
            '            case "none":\n',
        ),
        Mutant(
            "reads_are_not_counted",
            "web/admission/costs.py",
            'return "reads"',
            "return None",
        ),
        Mutant(
            "health_checks_are_counted",
            "web/admission/costs.py",
            "    if is_public(path):\n",
            "    if False:\n",
            _COSTS,
        ),
        Mutant(
            "a_new_path_is_public",
            "web/admission/costs.py",
            "return path in PUBLIC or path",
            'return path in PUBLIC or not path.startswith(("/api/", "/v1/")) or path',
            _COSTS,
        ),
        Mutant(
            "a_new_post_is_a_change",
            "web/admission/costs.py",
            "not CHANGES.fullmatch(path)",
            'path.startswith("/api/conversations")',
            _COSTS,
        ),
        Mutant(
            "heads_are_no_reads",
            "web/admission/costs.py",
            'if method in ("GET", "HEAD"):',
            'if method == "GET":',
        ),
        Mutant(
            "a_cancel_counts_as_a_read",
            "web/admission/costs.py",
            'else "changes"',
            'else "reads"',
        ),
        Mutant(
            "reads_have_the_limits_of_posts",
            "web/admission/layer.py",
            "self._settings.reads_per_minute_per_user,",
            "self._settings.posts_per_minute_per_user,",
        ),
        Mutant(
            "too_much_is_no_reason",
            "web/admission/layer.py",
            "        if not check.allowed:\n            retry",
            "        if False:\n            retry",
        ),
        Mutant(
            "each_read_asks_redis",
            "streams/limits/rates.py",
            "amount = max(1, limit // SHARES)",
            "amount = 1",
            _RATES,
        ),
        Mutant(
            "a_share_is_given_beyond_the_limit",
            "streams/limits/rates.py",
            "max(0, min(amount, left + amount))",
            "amount",
            _RATES,
        ),
        Mutant(
            "a_share_outlives_its_minute",
            "streams/limits/rates.py",
            "share is None or share.minute != minute:",
            "share is None:",
            _RATES,
        ),
        Mutant(
            "who_has_used_it_up_asks_again",
            "streams/limits/rates.py",
            "if not (share.left or share.used_up)",
            "if not share.left",
            _RATES,
        ),
        Mutant(
            "a_refused_user_uses_up_the_address",
            "streams/limits/rates.py",
            "            if not allowed:\n                break\n        return checks",
            "        return checks",
            _RATES,
        ),
        Mutant(
            "names_are_asked_for_one_by_one",
            "streams/limits/rates.py",
            "            await asyncio.gather(*asked)\n",
            "            for one in asked:\n                await one\n",
            _RATES,
        ),
        Mutant(
            "sums_are_never_forgotten",
            "streams/limits/rates.py",
            "        if until <= now:\n",
            "        if False:\n",
            _RATES,
        ),
        Mutant(
            "shares_add_up",
            "streams/limits/rates.py",
            """(
                share is None and len(self._shares) >= MAX_NAMES
            )""",
            "False",
            _RATES,
        ),
        Mutant(
            "of_ipv6_each_address_counts",
            "streams/addresses.py",
            "ipaddress.ip_network((address, 64), strict=False)",
            "address",
            _NAMES,
        ),
        Mutant(
            "a_proxy_is_a_client",
            "streams/addresses.py",
            "        if self._trusts(str(address)):\n            return None\n",
            "",
            _NAMES,
        ),
        Mutant(
            "the_first_of_a_chain_counts",
            "streams/addresses.py",
            "*reversed(listed)",
            "*listed",
            _NAMES,
        ),
        Mutant(
            "a_body_of_any_length",
            "web/http/receiving.py",
            "        self._refuse_beyond(self._read)\n",
            "",
            ("tests/unit/web/test_bad_input.py",),
        ),
        Mutant(
            "a_body_as_slow_as_it_likes",
            "web/http/receiving.py",
            "min(self.grace + read",
            "min(600 + read",
        ),
        Mutant(
            "a_long_body_gets_no_more_time",
            "web/http/receiving.py",
            " + read / SLOWEST_BYTES_PER_SECOND",
            "",
        ),
        Mutant(
            "one_user_takes_all_the_memory",
            "web/http/receiving.py",
            "Occupancy(self.share)",
            "Occupancy(limit)",
        ),
        Mutant(
            "what_was_read_is_held_for_ever",
            "web/http/receiving.py",
            "        self._held.release()\n",
            "        pass\n",
        ),
        Mutant(
            "silence_is_waited_for",
            "web/http/connections.py",
            "            self._arm(self.terms.head_seconds)",
            "            pass",
        ),
        Mutant(
            "a_refused_body_is_taken_to_its_end",
            "web/http/connections.py",
            "            if self._lingering > LINGER_BYTES:",
            "            if False:",
        ),
        Mutant(
            "a_refused_body_may_drip_for_ever",
            "web/http/connections.py",
            "            self._arm(LINGER_SECONDS)\n",
            "",
        ),
        Mutant(
            "a_socket_without_a_login_lives_on",
            "web/http/sockets.py",
            '        self._arm(min(self.terms.head_seconds, LOGIN_SECONDS), "no login in time")\n',
            "",
        ),
        Mutant(
            "messages_before_a_login_are_long",
            "web/http/sockets.py",
            "max_size=LOGIN_FRAME_BYTES,",
            "max_size=longest,",
            _SOCKET,
        ),
        Mutant(
            "messages_after_a_login_are_short",
            "web/http/sockets.py",
            "        self.max_message_size = self._longest\n",
            "",
        ),
        Mutant(
            "who_reads_nothing_stays",
            "streams/limits/stalled.py",
            "            self._cut()\n",
            "            pass\n",
            _STALLED,
        ),
        Mutant(
            "who_reads_a_little_is_cut",
            "streams/limits/stalled.py",
            "self._transport.get_write_buffer_size() < self._left",
            "False",
            _STALLED,
        ),
        Mutant(
            "web_does_not_watch",
            "web/http/terms.py",
            "        return Stalled(transport, self.stalled_seconds, cut)",
            "        return Stalled(transport, 1e9, cut)",
            _STALLED,
        ),
        Mutant(
            "the_broadcaster_does_not_watch",
            "broadcaster/connection.py",
            "class ReaderConnection(StalledWrites, ServerConnection):",
            "class ReaderConnection(ServerConnection):",
            _STALLED,
        ),
        Mutant(
            "the_web_process_does_not_watch",
            "web/http/connections.py",
            "class HttpConnection(StalledWrites, StrictProtocol):",
            "class HttpConnection(StrictProtocol):",
            _STALLED,
        ),
        Mutant(
            "nobody_watches_who_is_paused",
            "streams/limits/stalled.py",
            "        super().pause_writing()\n        self._stalled.paused()\n",
            "        super().pause_writing()\n",
            _STALLED,
        ),
        Mutant(
            "any_number_of_values",
            "web/http/census.py",
            "        if most is not None and counting.values > most:\n",
            "        if False:\n",
            _CENSUS,
        ),
        Mutant(
            "an_escaped_quote_ends_a_string",
            "web/http/census.py",
            '.replace(b\'\\\\"\', b"")',
            "",
            _CENSUS,
        ),
        Mutant(
            "a_slice_ends_an_escape",
            "web/http/census.py",
            """piece[
            len(piece) - backslashes % 2 :
        ]""",
            'b""',
            _CENSUS,
        ),
        Mutant(
            "everything_is_plain",
            "web/http/census.py",
            "    return _ZERO not in piece and",
            "    return",
            _CENSUS,
        ),
        Mutant(
            "broken_all_over_is_mended",
            "web/http/bodies.py",
            "storable_json(strict_json(body.decode(), once=once), MAX_REPLACED)",
            "storable_json(strict_json(body.decode(), once=once))",
            _CENSUS,
        ),
        Mutant(
            "damage_is_counted_text_by_text",
            "protocol/text.py",
            "self._left -= _broken(text)",
            "self._left = 1000 - _broken(text)",
            _CENSUS,
        ),
        Mutant(
            "threads_keep_the_lock",
            "web/__main__.py",
            "    sys.setswitchinterval(SWITCH_SECONDS)\n",
            "",
            (
                (
                    "tests/integration/test_web_process.py::test_the_loop_gets_pythons_lock_back"
                    "_qui"
                    "ckly"
                ),
            ),
        ),
        Mutant(
            "any_depth",
            "web/http/bodies.py",
            "    if found.depth > MAX_JSON_DEPTH:",
            "    if False:",
            _CENSUS,
        ),
        Mutant(
            "everything_is_done_at_once",
            "web/http/aside.py",
            "if size <= SMALL_BYTES else",
            "if True else",
            _LARGE,
        ),
        Mutant(
            "each_of_many_members_is_complained_of",
            "web/services.py",
            "if isinstance(value, dict) and len(value) > MAX_MEMBERS:",
            "if False:",
            ("tests/unit/web/test_bad_input.py",),
        ),
        Mutant(
            "an_unread_answer_is_charged_to_nobody",
            "web/admission/layer.py",
            "Outgoing(scope, body, admitted, unread, repeatable=repeatable)",
            "admitted",
            _UNREAD,
        ),
        Mutant(
            "an_unread_answer_is_held_for_ever",
            "web/admission/layer.py",
            "            places.callback(unread.release)\n",
            "",
            _UNREAD,
        ),
        Mutant(
            "an_answer_is_forgotten_when_written",
            "web/http/sending.py",
            """            self._large
""",
            """            False
""",
            _UNREAD,
        ),
        Mutant(
            "what_was_done_is_not_told",
            "web/http/sending.py",
            "self._refused = self._repeatable",
            "self._refused = True",
            _UNREAD,
        ),
        Mutant(
            "an_answer_follows_its_refusal",
            "web/http/sending.py",
            "        elif self._refused:\n",
            "        elif False:\n",
            _UNREAD,
        ),
        Mutant(
            "the_largest_answer_cannot_be_read",
            "web/http/sending.py",
            "min(length, self._held.most)",
            "length",
            _UNREAD,
        ),
        Mutant(
            "small_answers_are_held", "web/http/sending.py", "length > SMALL_BYTES", "True", _UNREAD
        ),
        Mutant(
            "addresses_have_all_the_memory",
            "web/http/receiving.py",
            "Occupancy(limit // _SHARE_OF_ADDRESS)",
            "Occupancy(limit)",
            _UNREAD,
        ),
        Mutant(
            "pages_are_measured_as_text",
            "models/quotas.py",
            'return f"json_quote({compiler.process(element.clauses, **options)})',
            'return f"({compiler.process(element.clauses, **options)})',
            _PAGES,
        ),
        Mutant(
            "a_page_of_any_length",
            "models/conversations.py",
            "bisect_right(sums, HISTORY_PAGE_BYTES)",
            "len(sums)",
            _PAGES,
        ),
        Mutant(
            "a_page_of_nothing",
            "models/conversations.py",
            "max(bisect_right(sums, HISTORY_PAGE_BYTES), min(1, len(sums)))",
            "bisect_right(sums, HISTORY_PAGE_BYTES)",
            _PAGES,
        ),
        Mutant(
            "a_wrong_sum_is_overwritten",
            "models/quotas.py",
            "select(literal(drift.stored - drift.counted))",
            "select(literal(drift.stored))",
            _RECOUNT,
        ),
        Mutant(
            "a_user_without_a_sum_is_forgotten",
            "models/quotas.py",
            "sorted(counted.keys() | stored.keys())",
            "sorted(counted.keys())",
            _RECOUNT,
        ),
        Mutant(
            "a_token_outlives_the_deletion",
            "protocol/tokens.py",
            "return ttl_seconds + LEEWAY_SECONDS",
            "return ttl_seconds",
            ("tests/unit/protocol/test_tokens.py",),
        ),
        Mutant(
            "what_did_not_fit_stays_taken",
            "web/http/receiving.py",
            "                undo.callback(occupancy.release, name, amount)\n",
            "",
            ("tests/unit/web/http/test_receiving.py",),
        ),
        Mutant(
            "memory_is_given_back_twice",
            "web/http/receiving.py",
            "address=self._address)\n        self._amount = 0",
            "address=self._address)",
            ("tests/unit/web/http/test_receiving.py",),
        ),
        Mutant(
            "after_a_minute_there_is_no_limit",
            "streams/limits/per_minute.py",
            "            self._began, self._count = now, 0\n",
            "            self._count = 0\n",
            ("tests/unit/streams/limits/test_per_minute.py",),
        ),
        Mutant(
            "what_follows_a_refused_body_is_counted_with_it",
            "web/http/connections.py",
            "            self._lingering = None\n            self._disarm()",
            "            self._disarm()",
        ),
    ],
)
