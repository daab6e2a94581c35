//! The Japanese catalogue: plain business Japanese, whole sentences, and always what happens next.

mod refusals;

use access_core::Language;
use chrono::{Datelike, NaiveDate, TimeDelta, Weekday};

use crate::ENGLISH;
use crate::assume_role;
use crate::texts::{
    EndingTexts, FormTexts, GrantTexts, MessageTexts, OutcomeTexts, RequestTexts, Texts, Words,
};

/// Japanese.
pub static JAPANESE: Texts = Texts {
    language: Language::Japanese,
    words: Words {
        date: japanese_date,
        date_and_clock: |date, clock| format!("{date} {clock}"),
        duration: japanese_duration,
        in_zone: |time, zone, offset| format!("{time}（{zone}、{offset}）"),
        person: |name, id| {
            if name == id {
                id.to_owned()
            } else {
                format!("{name}（{id}）")
            }
        },
        labelled: |label, value| format!("{label}：{value}"),
        heading: |heading| format!("■ {heading}"),
        noted: |said, note| format!("{said}（{note}）"),
        comma: "、",
        sentence: |said| format!("{said}。"),
    },
    request: RequestTexts {
        asked: "申請内容",
        who: "申請者",
        claimed: "自己申告（本人確認なし）",
        claimed_hint: "申請者の名前は、申請時に誰でも自由に記入できます。不審な点がある場合は、ご本人に直接ご確認ください。",
        verified: "AWS による本人確認済み",
        verified_hint: "申請者本人の AWS 認証情報で署名された申請です。",
        what: "対象",
        role_on_target: |role, target| format!("{target} のロール {role}"),
        role: "ロール",
        member_of: |roles| format!("{} の権限を持っています。", roles.join("、")),
        acted_as_by: |roles| {
            format!(
                "{} は、ログインが停止されている間も、いつでもこのロールとして操作できます。",
                roles.join("、")
            )
        },
        creates_roles: "他のロールを作成・変更できます。",
        creates_databases: "データベースを作成できます。",
        replicates: "クラスター全体を複製できます（レプリケーション権限）。",
        bypasses_row_security: "行レベルセキュリティの対象外で、すべての行を参照・変更できます。",
        may_assume: |grantee, role_arn, name| {
            format!(
                "{grantee} が、ソースアイデンティティ {name} を付けた場合に限り、{role_arn} を引き受けられるようになります。"
            )
        },
        sessions_run_out: |duration| {
            format!(
                "Latchkeyはこのロールを変更できません。終了時に残っているセッションは、最長で{duration}続きます。"
            )
        },
        opened_outside_windows: "利用時間外でもすでにログインできる状態です。",
        reaches_latchkey: "Latchkey自身のデータベースに接続でき、その接続数を使い切るおそれがあります。",
        ends_sessions: "他の利用者のセッションを切断できます。Latchkey のセッションも切断できるため、自分が閉じられるのを妨げることがあります。",
        rights: "権限",
        and_more: |n_more| format!("他{n_more}件"),
        extension: "延長",
        extends: |open_until, until| {
            format!(
                "申請者はこのロールを {open_until} まで利用中です。それまでに承認されると、途切れることなく {until} まで利用できます"
            )
        },
        extended: |open_until, until| {
            format!(
                "申請者はこのロールを {open_until} まで利用中です。この申請により、途切れることなく {until} まで利用できます"
            )
        },
        extends_nothing: |open_until| {
            format!(
                "申請者はこのロールを {open_until} まで利用中です。この申請で利用時間が延びることはありません"
            )
        },
        other_windows: "このロールの他の利用時間",
        other_window: |start, end, request_id| {
            format!("{start} から {end} まで（申請番号 {request_id}）")
        },
        other_window_is_open: |end, request_id| {
            format!("現在利用中、{end} まで（申請番号 {request_id}）")
        },
        foreign_characters: |code_points| format!("{code_points} を含みます"),
        why: "理由",
        requester_says: "申請者の記載：",
        made_harmless: "この文中のリンク、メンション、見えない文字は無害化して表示しています。",
        when: "日時",
        opens: "開始予定",
        closes: "終了予定",
        how_long: "利用時間",
        as_soon_as_approved: "承認され次第",
        not_before: |start| format!("{start} より前には開始しません"),
        asked_for: "当初の申請",
        narrowed: "承認者が短縮",
        from_to: |start, end| format!("{start} から {end} まで"),
        from_approval_until: |end| format!("承認され次第、{end} まで"),
        from_approval_for: |duration| format!("承認され次第、{duration}"),
        only_from: |start| format!("{start} 以降に限る"),
        only_until: |end| format!("{end} までに限る"),
        only_from_to: |start, end| format!("{start} から {end} までに限る"),
        planned_start_passed: |start| format!("開始予定の {start} を過ぎています"),
        after_approval: |duration| format!("承認の{duration}後"),
        latest_end: |end| format!("遅くとも {end}"),
        starts_in: |time_left| format!("あと{time_left}"),
        would_remain: |left, asked| format!("申請の{asked}のうち、残り{left}"),
        if_approved_now: |duration| format!("今承認した場合{duration}"),
        who_decides: "承認者",
        rule: "承認条件",
        approvals_needed: |n_required, approvers| {
            format!(
                "{}名（{}）のうち{n_required}名の承認が必要です。1名でも却下すると終了します",
                approvers.len(),
                approvers.join("、")
            )
        },
        decide_by: "回答期限",
        time_left: |time_left| format!("残り{time_left}"),
        deadline_passed: "期限切れ",
        decisions: "これまでの回答",
        progress: |n_approved, n_required| format!("{n_required}名中{n_approved}名が承認済み"),
        approved_by: |name| format!("{name} さんが承認"),
        rejected_by: |name| format!("{name} さんが却下"),
        opened_without_approval: |requester| format!("{requester} さんが承認なしで開始"),
        without_approval: |requester, reviewers| {
            format!(
                "このロールの緊急時の規定により、{requester} さんが承認なしで開始しました。終了後に {} のいずれかによる確認が必要です",
                reviewers.join("、")
            )
        },
        request_id: "申請番号",
        next: "今後の流れ",
        next_is_open_for: |requester| {
            format!(
                "今回の利用専用のパスワードが発行されます。読めるのは {requester} さんだけで、ロールが閉じられると無効になります。"
            )
        },
        next_expires: |decide_by| {
            format!(
                "{decide_by} までに必要な承認がそろわない場合、この申請は期限切れとなり、ログインは許可されません。"
            )
        },
    },
    login: GrantTexts {
        place: "データベース",
        kind: |_| {
            "特権を持つPostgreSQLユーザーです。承認されるとログインできるようになります。"
                .to_owned()
        },
        lead: |requester, how_long| {
            format!(
                "{requester} さんが、データベースへの特権ログインを申請しています（{how_long}）。"
            )
        },
        next_opens_when_approved: |n_missing| {
            format!("あと{n_missing}名が承認すると、直ちにログインできるようになります。")
        },
        next_opens_at_when_approved: |n_missing, start| {
            format!("あと{n_missing}名が承認すると、{start} にログインできるようになります。")
        },
        next_opens_now: "まもなくログインできるようになります。",
        next_is_open_now: "現在、ログインできる状態です。",
        next_opens_at: |start| format!("{start} にログインできるようになります。"),
        next_is_open: |given| {
            format!(
                "利用時間中は、{} のパスワードを知っている人なら誰でもログインできます。",
                given.user
            )
        },
        next_closes_at: |end| {
            format!(
                "{end} に終了します。以後は誰もログインできず、残っているセッションは切断されます。"
            )
        },
        next_closes_after: |duration| {
            format!(
                "{duration}後に終了します。以後は誰もログインできず、残っているセッションは切断されます。"
            )
        },
        next_closes_after_at_latest: |duration, end| {
            format!(
                "{duration}後、遅くとも {end} に終了します。以後は誰もログインできず、残っているセッションは切断されます。"
            )
        },
        end_window_means: "ログインは直ちに停止し、残っているセッションは切断され、コミットしていない変更は失われます。終了した人と理由を関係者全員にお知らせします。",
        already_open: "この申請は承認され、現在ログインできる状態です。",
        already_closed: "この申請の利用時間は終了し、ログインは停止されています。",
        open: "ログインできる状態です",
        closing_now: "この申請の利用時間は終了し、ログインを停止しています。停止を確認した時点でお知らせします。",
        ask: |approver, requester| {
            format!(
                "{approver} さん\n\n{requester} さんから、特権を持つPostgreSQLユーザーでのログインの申請がありました。内容をご確認のうえ、承認または却下をお願いします。"
            )
        },
        remind: |approver, requester, time_left| {
            format!(
                "{approver} さん\n\n{requester} さんからの、特権を持つPostgreSQLユーザーでのログインの申請に、まだご回答をいただいていません（{time_left}）。内容をご確認のうえ、承認または却下をお願いします。"
            )
        },
        ends_soon_subject: ENGLISH.login.ends_soon_subject,
        ends_soon: |role, target, end| {
            format!("{target} のロール {role} のログインは、まもなく停止します。停止時刻：{end}")
        },
        ends_soon_next: "作業を終えてください。停止すると、誰もログインできなくなり、残っているセッションは切断され、コミットしていない変更は失われます。このロールについて承認済みの別の申請がある場合に限り、利用を続けられます。時間が足りない場合は、今のうちにあらためて申請してください。",
        opened_subject: ENGLISH.login.opened_subject,
        opened: |role, target| {
            format!("{target} のロール {role} でログインできるようになりました。")
        },
        closed_subject: ENGLISH.login.closed_subject,
        closed: |role, target, at| {
            format!(
                "{target} のロール {role} のログインを停止しました。{at} にデータベース上で確認済みです。"
            )
        },
        closed_next: "このロールでは誰もログインできず、残っているセッションもありません。",
        close_failing_subject: ENGLISH.login.close_failing_subject,
        close_failing: |role, target| {
            format!(
                "【警報】利用時間は終了しましたが、{target} のロール {role} のログインが停止したことを確認できません。まだログインできるものとして対応してください。"
            )
        },
    },
    membership: GrantTexts {
        place: "データベース",
        kind: |given| {
            format!(
                "ロールのメンバー資格です。承認されると、PostgreSQLユーザー {} が {} として操作できるようになります（SET ROLE）。",
                given.user, given.role
            )
        },
        lead: |requester, how_long| {
            format!(
                "{requester} さんが、特権を持つPostgreSQLロールの権限を申請しています（{how_long}）。"
            )
        },
        next_opens_when_approved: |n_missing| {
            format!("あと{n_missing}名が承認すると、直ちにメンバー資格が付与されます。")
        },
        next_opens_at_when_approved: |n_missing, start| {
            format!("あと{n_missing}名が承認すると、{start} にメンバー資格が付与されます。")
        },
        next_opens_now: "まもなくメンバー資格が付与されます。",
        next_is_open_now: "現在、メンバー資格が付与されています。",
        next_opens_at: |start| format!("{start} にメンバー資格が付与されます。"),
        next_is_open: |given| {
            format!(
                "利用時間中は、{} としてログインできる人なら誰でも {} として操作できます。PostgreSQL が自動的に終了することはありません。Latchkey が終了し、数分ごとに確認します。",
                given.user, given.role
            )
        },
        next_closes_at: |end| {
            format!(
                "{end} に終了します。メンバー資格は取り消され、このユーザーのセッションは、他の作業のものも含めてすべて切断されます。"
            )
        },
        next_closes_after: |duration| {
            format!(
                "{duration}後に終了します。メンバー資格は取り消され、このユーザーのセッションは、他の作業のものも含めてすべて切断されます。"
            )
        },
        next_closes_after_at_latest: |duration, end| {
            format!(
                "{duration}後、遅くとも {end} に終了します。メンバー資格は取り消され、このユーザーのセッションは、他の作業のものも含めてすべて切断されます。"
            )
        },
        end_window_means: "メンバー資格は直ちに取り消され、このユーザーのセッションはすべて切断され、コミットしていない変更は失われます。終了した人と理由を関係者全員にお知らせします。",
        already_open: "この申請は承認され、現在メンバー資格が付与されています。",
        already_closed: "この申請の利用時間は終了し、メンバー資格は取り消されています。",
        open: "メンバー資格が付与されています",
        closing_now: "この申請の利用時間は終了し、メンバー資格を取り消しています。取り消しを確認した時点でお知らせします。",
        ask: |approver, requester| {
            format!(
                "{approver} さん\n\n{requester} さんから、特権を持つPostgreSQLロールの権限の申請がありました。内容をご確認のうえ、承認または却下をお願いします。"
            )
        },
        remind: |approver, requester, time_left| {
            format!(
                "{approver} さん\n\n{requester} さんからの、特権を持つPostgreSQLロールの権限の申請に、まだご回答をいただいていません（{time_left}）。内容をご確認のうえ、承認または却下をお願いします。"
            )
        },
        ends_soon_subject: ENGLISH.membership.ends_soon_subject,
        ends_soon: |role, target, end| {
            format!("{target} のメンバー資格 {role} は、まもなく終了します。終了時刻：{end}")
        },
        ends_soon_next: "作業を終えてください。終了すると、このユーザーのセッションはすべて切断され、コミットしていない変更は失われます。このメンバー資格について承認済みの別の申請がある場合に限り、利用を続けられます。時間が足りない場合は、今のうちにあらためて申請してください。",
        opened_subject: ENGLISH.membership.opened_subject,
        opened: |role, target| {
            format!(
                "{target} のメンバー資格 {role} が付与されました。通常どおりログインし、SET ROLE を実行してください。"
            )
        },
        closed_subject: ENGLISH.membership.closed_subject,
        closed: |role, target, at| {
            format!(
                "{target} のメンバー資格 {role} は終了しました。{at} にデータベース上で確認済みです。"
            )
        },
        closed_next: "このユーザーは、誰による付与であっても、もうこのロールのメンバーではありません。このロールとして操作できるセッションも残っていません。",
        close_failing_subject: ENGLISH.membership.close_failing_subject,
        close_failing: |role, target| {
            format!(
                "【警報】利用時間は終了しましたが、{target} のメンバー資格 {role} が終了したことを確認できません。まだメンバーであるものとして対応してください。"
            )
        },
    },
    assume_role: assume_role::JAPANESE,
    assume_role_run_out: assume_role::JAPANESE_RUN_OUT,
    form: FormTexts {
        heading: |role, target| format!("{target} の {role} の利用を承認しますか"),
        go_to_decision: "回答欄へ移動",
        your_decision: "回答",
        deciding_as: |name| {
            format!(
                "{name} さんとして回答します。このリンクはご本人専用です。他の方に渡さないでください。"
            )
        },
        comment: "コメント",
        comment_hint: |max_chars| {
            format!("却下する場合は必須です。申請者に理由として伝わります。{max_chars}文字まで。")
        },
        narrow: "時間を短縮して承認する（任意）",
        narrow_hint: |zone| {
            format!(
                "開始を遅らせる、終了を早める、またはその両方ができます。申請の範囲外にはできません。時刻は {zone} で入力してください。変更しない欄は空のままにしてください。却下する場合は不要です。"
            )
        },
        start_later: "開始を遅らせる（日時）",
        end_earlier: "終了を早める（日時）",
        not_before_hint: |earliest| format!("{earliest} 以降を指定してください。"),
        not_after_hint: |latest| format!("{latest} 以前を指定してください。"),
        time_unreadable: "2026-11-22T19:30 のように日付と時刻を入力するか、空のままにしてください。",
        time_twice: |zone| {
            format!(
                "{zone} では時計が戻されるため、この時刻は2回あります。その前後1時間を避けた時刻を指定してください。"
            )
        },
        time_never: |zone| {
            format!(
                "{zone} では時計が進められるため、この時刻は存在しません。その前後の時刻を指定してください。"
            )
        },
        start_too_early: |earliest| {
            format!(
                "{earliest} より前に開始することはできません。より遅い開始を指定するか、空のままにしてください。"
            )
        },
        end_too_late: |latest| {
            format!(
                "{latest} より後に終了することはできません。より早い終了を指定するか、空のままにしてください。"
            )
        },
        too_short: |left, least| {
            format!(
                "この指定では残りが{left}になります。このロールの最短の利用時間は{least}です。時間を長くするか、申請を却下してください。"
            )
        },
        too_short_together: |left, least| {
            format!(
                "他の承認者の指定と合わせると、残りが{left}になります。このロールの最短の利用時間は{least}です。これまでの回答を確認のうえ時間を長くするか、申請を却下してください。"
            )
        },
        role_in_use: |name, until| {
            format!(
                "{until} までは {name} さんがこのロールを利用しており、複数の人が同時に利用することはできません。その時刻以降に開始するよう指定するか、後で承認してください。"
            )
        },
        role_in_use_by_hand: |until| {
            format!(
                "{until} まではデータベースの所有者がこのロールを手動で開いており、複数の人が同時に利用することはできません。その時刻以降に開始するよう指定するか、後で承認してください。"
            )
        },
        role_in_use_by_somebody: |until| {
            format!(
                "{until} までは別の人がこのロールを利用しており、複数の人が同時に利用することはできません。その時刻以降に開始するよう指定するか、後で承認してください。"
            )
        },
        type_role: "承認する場合は、次のロール名を入力してください：",
        type_role_hint: "メールの自動検査による誤操作を防ぐためです。却下する場合は不要です。",
        approve: "承認する",
        reject: "却下する",
        not_recorded: "まだ記録されていません",
        no_decision: "「承認する」または「却下する」を押してください。",
        role_does_not_match: |role| {
            format!("承認するには、ロール名を正確に入力してください：{role}")
        },
        comment_too_long: |max_chars, n_chars| {
            format!("コメントは{max_chars}文字以内にしてください（現在{n_chars}文字）。")
        },
        comment_missing: "却下する場合は、コメントに理由を記入してください。申請者に伝わります。",
        as_of: |time| {
            format!(
                "残り時間は、このページを作成した {time} 時点のものです。最新の状態は再読み込みでご確認ください。"
            )
        },
        never_asks: "Latchkeyがパスワードをお尋ねすることはありません。",
    },
    ending: EndingTexts {
        cancel: "この申請を取り消す",
        cancel_means: "ログインは許可されません。取り消した人と理由を関係者全員にお知らせします。",
        cancel_now: "取り消す",
        end_window: "利用時間を今すぐ終了する",
        end_window_now: "今すぐ終了する",
        ending_as: |name| {
            format!(
                "{name} さんとして終了します。このリンクはご本人専用です。他の人に渡さないでください。"
            )
        },
        reason: "理由",
        reason_hint: |max_chars| {
            format!("関係者に伝わります。{max_chars}文字以内で入力してください。")
        },
        reason_missing: "理由を記入してください。関係者に伝わります。",
        reason_too_long: |max_chars, n_chars| {
            format!("理由は{max_chars}文字以内にしてください（現在{n_chars}文字）。")
        },
        type_role: "終了する場合は、次のロール名を入力してください：",
        type_role_hint: "メールの自動検査による誤操作を防ぐためです。",
        role_does_not_match: |role| {
            format!("終了するには、ロール名を正確に入力してください：{role}")
        },
        not_pressed: |button| format!("「{button}」を押してください。"),
    },
    outcome: OutcomeTexts {
        approved_waits: "承認を記録しました",
        approved_waits_for: |n_missing| {
            format!("あと{n_missing}名の承認を待っています。それまではログインできません。")
        },
        approved: "承認されました",
        approved_done: "承認を記録しました。これで必要な承認がそろいました。",
        rejected: "却下されました",
        rejected_done: "却下を記録しました。この申請は終了し、ログインは許可されません。申請者に理由をお知らせします。",
        already_decided: "回答済みです",
        already_by_you: |at| {
            format!("この申請には {at} に回答済みです。ここで回答を変更することはできません。")
        },
        already_by: |names, at| format!("{at} に {} さんが回答しました。", names.join(" さん、")),
        already_approved: "この申請は承認されました。これ以上の回答は必要ありません。",
        already_open_without_approval: "この利用は、緊急のため承認なしで開始されました。終了後に確認が必要です。",
        already_ended: "この申請の利用時間は終了しました。承認済みの別の申請のため、ロールは引き続き利用できる状態です。",
        already_rejected: "この申請は却下され、終了しました。ログインは許可されません。",
        already_refused: "この申請は開始できないため、受け付けられませんでした。ログインは許可されていません。",
        already_cancelled: "この申請は、開始前に取り消されました。ログインは許可されません。",
        waits: "承認を待っています",
        still_waits: "この申請は回答を待っています。この申請によるログインは許可されていません。",
        over: "利用時間は終了しました",
        refused: "受け付けられませんでした",
        cancelled: "取り消されました",
        expired: "期限を過ぎています",
        expired_at: |decide_by| format!("この申請の回答期限は {decide_by} でした。"),
        window_passed: |end| format!("申請された時間は {end} に終了しました。"),
        nothing_opened: "ログインは許可されていません。まだ必要な場合は、申請者があらためて申請してください。",
        cannot_decide: "この申請には回答できません",
        you_are_the_requester: "ご自身の申請です。自分の申請を承認することはできません。他の承認者に依頼済みです。",
        not_an_approver: "このロールの承認者に登録されていません。承認者の一覧は基盤チームが管理しています。",
        only_by_signed_call: "このロールはリンクでは判断できません。ご自身の AWS 認証情報で署名した呼び出しで判断してください：このページのアドレスの POST /requests/申請ID/decision。手順は README にあります。",
        invalid_link: "このリンクは無効です",
        invalid_link_help: "メッセージ内のリンクを、省略や変更をせずにもう一度開いてください。",
        bad_form: "内容を読み取れませんでした",
        bad_form_help: "何も記録されていません。メッセージ内のリンクをもう一度開き、ページ上のボタンを使ってください。",
        too_many: "アクセスが集中しています",
        too_many_help: "1分ほど待ってから、メッセージ内のリンクをもう一度開いてください。",
        temporary: "一時的に処理できませんでした",
        temporary_help: "1分ほど待ってから、メッセージ内のリンクをもう一度開いてください。回答が記録されているかどうかはページに表示されます。",
        reference: "繰り返し表示される場合は、次の番号を基盤チームにお知らせください：",
        may_close: "このページは閉じてかまいません。",
    },
    message: MessageTexts {
        ask_subject: ENGLISH.message.ask_subject,
        remind_subject: ENGLISH.message.remind_subject,
        decide_here: "内容の確認と回答はこちらからお願いします：",
        link_is_personal: "このリンクはご本人専用です。リンクを知っている人は誰でもあなたの名前で回答できるため、このメッセージを転送しないでください。リンクを開いただけでは回答になりません。",
        decide_by_call: |command| {
            format!(
                "承認者は、ご本人宛てのメールにあるリンクか、ご自身のAWS認証情報で署名した次の呼び出しで回答してください：`{command}`"
            )
        },
        accepted_subject: ENGLISH.message.accepted_subject,
        accepted: |role, target| {
            format!(
                "{target} のロール {role} の申請は承認を待っています。承認者に依頼済みです。申請した覚えがない場合は、取り消したうえで基盤チームにお知らせください。"
            )
        },
        end_here: "予定より早く終了する場合は、こちらで理由を記入してください：",
        end_link_is_personal: "このリンクはご本人専用です。リンクを知っている人は誰でもあなたの名前でこの申請と利用時間を終了できます（それ以外のことはできません）。リンクを開いただけでは終了しません。",
        approved_subject: ENGLISH.message.approved_subject,
        approved: |role, target| format!("{target} のロール {role} の申請は承認されました。"),
        already_handled: "対応済みです。下記の回答により、この申請の結果は確定しました。あなたの回答はもう必要ありません。お送りしたリンクでは、結果の確認と、終了前であれば早めの終了ができます。",
        already_rejected: "対応済みです。この申請は却下され、ログインは許可されません。あなたの対応はもう必要ありません。",
        same_password: "パスワードは、現在利用中の申請と同じものです。変更されず、最後の利用時間が終了するまで有効です。",
        glass_broken_subject: ENGLISH.message.glass_broken_subject,
        glass_broken: |requester, role, target| {
            format!(
                "【緊急】{requester} さんが、{target} のロール {role} の利用を、緊急時の規定により承認なしで開始しました。"
            )
        },
        end_it: |request_id| {
            format!(
                "利用を止めるべき場合は、ご自身のAWS認証情報で署名し、理由を添えて POST /requests/{request_id}/end を呼び出してください。"
            )
        },
        review_it: |requester, reviewers, request_id| {
            format!(
                "終了後、{} のいずれかが作業内容を確認し、ご自身のAWS認証情報で署名のうえ、コメントを添えて POST /requests/{request_id}/review を呼び出す必要があります。それまで、{requester} さんは承認なしで利用を開始できません。",
                reviewers.join("、")
            )
        },
        assume_it: "ロールを引き受けるには、ご本人の認証情報で次のコマンドを実行してください。拒否される場合は、AWSへの反映に数分かかっていることがあります。",
        reviewed_subject: ENGLISH.message.reviewed_subject,
        reviewed: |reviewer, role, target, at| {
            format!(
                "承認なしで開始された {target} のロール {role} の利用を、{reviewer} さんが確認しました（{at}）："
            )
        },
        reviewed_next: |requester| {
            format!(
                "ほかの方の確認は必要ありません。{requester} さんは、認められているロールでは、再び承認なしで利用を開始できます。"
            )
        },
        read_password: "パスワードは、あなただけが読めるシークレットに保存されています。ご本人の権限で次のコマンドを実行してください：",
        nothing_left: "ロール、権限、設定、関数、トリガーは、利用開始前と同じ状態です。パスワードの変更とデータの変更は、この確認の対象外です。対応は必要ありません。",
        left_behind: "利用時間中に残された変更（+ は新しいもの、- は以前にあったもの）",
        left_behind_next: "作業に含まれない変更は、データベース管理者が元に戻してください。GRAVE と表示された変更は、再侵入の手段になり得ます。直ちに確認してください。パスワードの変更とデータの変更は、この確認の対象外です。",
        still_open_subject: ENGLISH.message.still_open_subject,
        still_open: |role, target, open_until| {
            format!(
                "この申請の利用時間は終了しましたが、{target} のロール {role} は、承認済みの別の申請のため {open_until} まで利用できる状態です。"
            )
        },
        still_open_next: |open_until| {
            format!(
                "{open_until} に停止します。停止したことは、その申請のメッセージでお知らせします。"
            )
        },
        rejected_subject: ENGLISH.message.rejected_subject,
        rejected: |role, target| {
            format!(
                "{target} のロール {role} の申請は却下されました。ログインは許可されていません。"
            )
        },
        expired_subject: ENGLISH.message.expired_subject,
        expired: |role, target| {
            format!(
                "{target} のロール {role} の申請は、期限までに必要な承認がそろわなかったため、期限切れとなりました。ログインは許可されていません。"
            )
        },
        refused_subject: ENGLISH.message.refused_subject,
        refused: |role, target| {
            format!(
                "{target} のロール {role} の申請は受け付けられませんでした。この申請によるログインは許可されていません。"
            )
        },
        refused_because: "理由",
        refusal: refusals::refusal,
        cancelled_subject: ENGLISH.message.cancelled_subject,
        cancelled: |role, target| {
            format!(
                "{target} のロール {role} の申請は取り消されました。ログインは許可されていません。"
            )
        },
        ended_by: |name, at| format!("{name} さんが終了しました（{at}）："),
        failed_subject: ENGLISH.message.failed_subject,
        failed: |role, target| {
            format!(
                "Latchkeyの障害により、{target} のロール {role} の申請を処理できませんでした。この申請によるログインは許可されていません。"
            )
        },
        failed_next: "基盤チームは、この申請の実行状況を確認してください。まだ必要な場合は、あらためて申請してください。",
        close_failing_goes_on: "Latchkeyは停止を試み続け、停止を確認した時点でお知らせします。それを待たずに、直ちに担当者が確認してください。",
        close_policies_by_hand: "手動で終了するには、それぞれのアカウントの管理者として次のコマンドを実行してください。",
        close_by_hand: "手動で停止するには、データベース管理者として次を実行してください：",
        ask_again: "まだ必要な場合は、申請者があらためて申請してください。",
    },
};

/// `2026年11月22日(日)`.
fn japanese_date(date: NaiveDate) -> String {
    let weekday = match date.weekday() {
        Weekday::Mon => "月",
        Weekday::Tue => "火",
        Weekday::Wed => "水",
        Weekday::Thu => "木",
        Weekday::Fri => "金",
        Weekday::Sat => "土",
        Weekday::Sun => "日",
    };
    format!(
        "{}年{}月{}日({weekday})",
        date.year(),
        date.month(),
        date.day()
    )
}

/// `1時間30分`.
fn japanese_duration(length: TimeDelta) -> String {
    let seconds = length.num_seconds();
    let said: String = [
        (seconds / 86_400, "日"),
        (seconds / 3_600 % 24, "時間"),
        (seconds / 60 % 60, "分"),
        (seconds % 60, "秒"),
    ]
    .into_iter()
    .filter(|(count, _)| *count != 0)
    .map(|(count, unit)| format!("{count}{unit}"))
    .collect();
    if said.is_empty() {
        "0秒".to_owned()
    } else {
        said
    }
}
