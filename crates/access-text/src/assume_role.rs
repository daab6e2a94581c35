//! What is said of the kind `assume-role`, in both languages: where the role ends live sessions, and where they run out.

use crate::english::more_approvals;
use crate::texts::GrantTexts;

pub(crate) const ENGLISH: GrantTexts = GrantTexts {
    place: "AWS account",
    kind: |_| "a privileged AWS role, which the requester will be able to assume".to_owned(),
    lead: |requester, how_long| {
        format!("{requester} asks to assume a privileged AWS role: {how_long}.")
    },
    next_opens_when_approved: |n_missing| {
        format!(
            "With {} the role can be assumed at once; AWS may need a few minutes.",
            more_approvals(n_missing)
        )
    },
    next_opens_at_when_approved: |n_missing, start| {
        format!(
            "With {} the role can be assumed from {start} on.",
            more_approvals(n_missing)
        )
    },
    next_opens_now: "The role can be assumed as soon as AWS knows, within a few minutes.",
    next_is_open_now: "The role can be assumed now.",
    next_opens_at: |start| format!("The role can be assumed from {start} on."),
    next_is_open: |_| {
        "While it is open, only the requester's own IAM user or role can assume it.".to_owned()
    },
    next_closes_at: |end| {
        format!(
            "At {end} it is closed: nobody can assume the role any more, and AWS denies sessions of this window everything."
        )
    },
    next_closes_after: |duration| {
        format!(
            "After {duration} it is closed: nobody can assume the role any more, and AWS denies sessions of this window everything."
        )
    },
    next_closes_after_at_latest: |duration, end| {
        format!(
            "After {duration}, at {end} at the latest, it is closed: nobody can assume the role any more, and AWS denies sessions of this window everything."
        )
    },
    end_window_means: "The policies are changed at once, and AWS needs a few minutes until they hold everywhere. Everybody concerned is told who ended it and why, and when it is closed.",
    already_open: "This request was approved, and the role can be assumed now.",
    already_closed: "The window of this request is over, and the role cannot be assumed because of it any more.",
    open: "The role can be assumed",
    closing_now: "The window of this request is over, and is ending: AWS needs a few minutes after an early end until its policies hold everywhere. A message says when it is closed.",
    ask: |approver, requester| {
        format!("{approver}, please decide: {requester} asks to assume a privileged AWS role.")
    },
    remind: |approver, requester, time_left| {
        format!(
            "{approver}, your decision is still missing ({time_left}): {requester} asks to assume a privileged AWS role."
        )
    },
    ends_soon_subject: |target| format!("Latchkey: access closes soon on {target}"),
    ends_soon: |role, target, end| format!("The access {role} on {target} closes at {end}."),
    ends_soon_next: "Finish what you are doing: then the role cannot be assumed any more, and AWS denies your sessions of it everything. If you need more time, file a new request now.",
    opened_subject: |target| format!("Latchkey: access open on {target}"),
    opened: |role, target| {
        format!("The access {role} on {target} is open: the role can be assumed.")
    },
    closed_subject: |target| format!("Latchkey: access closed on {target}"),
    closed: |role, target, at| {
        format!("The access {role} on {target} is closed. The policies were read back at {at}.")
    },
    closed_next: "The role cannot be assumed because of this request any more, and AWS denies the sessions of its window everything. What they did is in CloudTrail, under the source identity that is this request's policy name.",
    close_failing_subject: |target| format!("Latchkey ALARM: access NOT closed on {target}"),
    close_failing: |role, target| {
        format!(
            "ALARM: the window is over, but the policies of {role} on {target} could not be taken back as they should. Their dates still end them, unless the window was ended before its time. Take it as still open."
        )
    },
};

/// Where Latchkey may not change the role.
pub(crate) const ENGLISH_RUN_OUT: GrantTexts = GrantTexts {
    next_closes_at: |end| {
        format!(
            "At {end} it is closed: nobody can assume the role any more. Sessions that live then go on until they expire."
        )
    },
    next_closes_after: |duration| {
        format!(
            "After {duration} it is closed: nobody can assume the role any more. Sessions that live then go on until they expire."
        )
    },
    next_closes_after_at_latest: |duration, end| {
        format!(
            "After {duration}, at {end} at the latest, it is closed: nobody can assume the role any more. Sessions that live then go on until they expire."
        )
    },
    end_window_means: "The policy is taken away at once, and AWS needs a few minutes until nobody can assume the role any more. Sessions that live then go on until they expire. Everybody concerned is told who ended it and why, and when it is closed.",
    ends_soon_next: "Finish what you are doing: then the role cannot be assumed any more. If you need more time, file a new request now.",
    closed_next: "The role cannot be assumed because of this request any more. Sessions of it that live go on until they expire. What they did is in CloudTrail, under the source identity that is this request's policy name.",
    ..ENGLISH
};

pub(crate) const JAPANESE: GrantTexts = GrantTexts {
    place: "AWSアカウント",
    kind: |_| {
        "特権を持つAWSのロールです。承認されると、申請者がこのロールを引き受けられるようになります。"
            .to_owned()
    },
    lead: |requester, how_long| {
        format!(
            "{requester} さんが、特権を持つAWSのロールの引き受けを申請しています（{how_long}）。"
        )
    },
    next_opens_when_approved: |n_missing| {
        format!(
            "あと{n_missing}名が承認すると、直ちにロールを引き受けられるようになります。AWSへの反映に数分かかることがあります。"
        )
    },
    next_opens_at_when_approved: |n_missing, start| {
        format!("あと{n_missing}名が承認すると、{start} からロールを引き受けられるようになります。")
    },
    next_opens_now: "AWSへの反映後（数分以内）に、ロールを引き受けられるようになります。",
    next_is_open_now: "現在、ロールを引き受けられる状態です。",
    next_opens_at: |start| format!("{start} からロールを引き受けられるようになります。"),
    next_is_open: |_| {
        "利用時間中にこのロールを引き受けられるのは、申請者本人のIAMユーザーまたはロールだけです。"
            .to_owned()
    },
    next_closes_at: |end| {
        format!(
            "{end} に終了します。以後は誰もロールを引き受けられず、この利用時間のセッションの操作はAWSがすべて拒否します。"
        )
    },
    next_closes_after: |duration| {
        format!(
            "{duration}後に終了します。以後は誰もロールを引き受けられず、この利用時間のセッションの操作はAWSがすべて拒否します。"
        )
    },
    next_closes_after_at_latest: |duration, end| {
        format!(
            "{duration}後、遅くとも {end} に終了します。以後は誰もロールを引き受けられず、この利用時間のセッションの操作はAWSがすべて拒否します。"
        )
    },
    end_window_means: "ポリシーを直ちに変更します。AWS全体に反映されるまで数分かかります。終了した人と理由、および停止の完了を関係者全員にお知らせします。",
    already_open: "この申請は承認され、現在ロールを引き受けられる状態です。",
    already_closed: "この申請の利用時間は終了し、この申請によってロールを引き受けることはできません。",
    open: "ロールを引き受けられる状態です",
    closing_now: "この申請の利用時間は終了し、停止の処理中です。予定より早く終了した場合、ポリシーがAWS全体に反映されるまで数分かかります。停止が完了した時点でお知らせします。",
    ask: |approver, requester| {
        format!(
            "{approver} さん\n\n{requester} さんから、特権を持つAWSのロールを引き受ける申請がありました。内容をご確認のうえ、承認または却下をお願いします。"
        )
    },
    remind: |approver, requester, time_left| {
        format!(
            "{approver} さん\n\n{requester} さんからの、特権を持つAWSのロールを引き受ける申請に、まだご回答をいただいていません（{time_left}）。内容をご確認のうえ、承認または却下をお願いします。"
        )
    },
    ends_soon_subject: ENGLISH.ends_soon_subject,
    ends_soon: |role, target, end| {
        format!("{target} の {role} の利用は、まもなく終了します。終了時刻：{end}")
    },
    ends_soon_next: "作業を終えてください。終了すると、ロールを引き受けられなくなり、このロールのセッションの操作はAWSがすべて拒否します。時間が足りない場合は、今のうちにあらためて申請してください。",
    opened_subject: ENGLISH.opened_subject,
    opened: |role, target| {
        format!("{target} の {role} の利用が始まり、ロールを引き受けられるようになりました。")
    },
    closed_subject: ENGLISH.closed_subject,
    closed: |role, target, at| {
        format!(
            "{target} の {role} の利用を停止しました。{at} にポリシーを読み直して確認済みです。"
        )
    },
    closed_next: "この申請によってロールを引き受けることはできず、この利用時間のセッションの操作はAWSがすべて拒否します。行われた操作は、この申請のポリシー名をソースアイデンティティとしてCloudTrailに記録されています。",
    close_failing_subject: ENGLISH.close_failing_subject,
    close_failing: |role, target| {
        format!(
            "【警報】利用時間は終了しましたが、{target} の {role} のポリシーを予定どおり取り消せません。ポリシーの日時による停止は有効ですが、予定より早く終了した場合は停止していません。まだ利用できるものとして対応してください。"
        )
    },
};

/// Where Latchkey may not change the role.
pub(crate) const JAPANESE_RUN_OUT: GrantTexts = GrantTexts {
    next_closes_at: |end| {
        format!(
            "{end} に終了します。以後は誰もロールを引き受けられません。その時点で残っているセッションは、有効期限まで続きます。"
        )
    },
    next_closes_after: |duration| {
        format!(
            "{duration}後に終了します。以後は誰もロールを引き受けられません。その時点で残っているセッションは、有効期限まで続きます。"
        )
    },
    next_closes_after_at_latest: |duration, end| {
        format!(
            "{duration}後、遅くとも {end} に終了します。以後は誰もロールを引き受けられません。その時点で残っているセッションは、有効期限まで続きます。"
        )
    },
    end_window_means: "ポリシーを直ちに削除します。誰もロールを引き受けられなくなるまで数分かかります。その時点で残っているセッションは、有効期限まで続きます。終了した人と理由、および停止の完了を関係者全員にお知らせします。",
    ends_soon_next: "作業を終えてください。終了すると、ロールを引き受けられなくなります。時間が足りない場合は、今のうちにあらためて申請してください。",
    closed_next: "この申請によってロールを引き受けることはできません。残っているセッションは、有効期限まで続きます。行われた操作は、この申請のポリシー名をソースアイデンティティとしてCloudTrailに記録されています。",
    ..JAPANESE
};
