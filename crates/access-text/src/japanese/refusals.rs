//! Why a request is refused, in Japanese.

use access_core::Refusal;
use access_core::overlap::Holder;
use access_core::subscription::{Distrust, Distrusted};
use chrono::TimeDelta;
use chrono_tz::Tz;

use super::{JAPANESE, japanese_duration};
use crate::moment::Moment;
use crate::request_text::finding_text;

/// What is wrong and how to mend it; times also in `zone`.
pub(super) fn refusal(refusal: &Refusal, zone: Tz) -> String {
    match refusal {
        Refusal::TargetGone => {
            "この対象はカタログから削除されました。別の対象を選んでください"
                .to_owned()
        }
        Refusal::RoleGone => {
            "このロールはカタログから削除されました。別のロールを選んでください".to_owned()
        }
        Refusal::RequesterGone => {
            "申請者がカタログから削除されました。基盤チームにお問い合わせください".to_owned()
        }
        Refusal::TargetMoved => {
            "この名前は、申請時とは別のデータベースまたはアカウントを指しています。あらためて申請してください"
                .to_owned()
        }
        Refusal::RequesterLostPrincipal => {
            "申請時に申請者のものだったIAMプリンシパルが、現在は申請者のものではありません。あらためて申請してください".to_owned()
        }
        Refusal::GrantChanged => {
            "このロールで利用できる権限の内容が、申請時から変わりました。あらためて申請してください".to_owned()
        }
        Refusal::CredentialChanged => {
            "このロールは、現在は利用時間ごとのパスワードで利用します。あらためて申請してください"
                .to_owned()
        }
        Refusal::NotAnApproverAnyMore { name } => format!(
            "承認した {name} さんは、現在このロールの承認者ではありません。あらためて申請してください"
        ),
        Refusal::ApproverLostPrincipal { name } => format!(
            "{name} さんが承認に使ったIAMプリンシパルは、現在は本人のものではありません。あらためて申請してください"
        ),
        Refusal::ApprovedByLink { name } => format!(
            "{name} さんはリンクから承認しましたが、現在このロールは署名付きの呼び出しでのみ承認できます。あらためて申請してください"
        ),
        Refusal::ApprovedTooLate { name } => format!(
            "{name} さんの承認は、現在のこのロールの承認期限を過ぎています。あらためて申請してください"
        ),
        Refusal::MoreMustApprove {
            required,
            required_then,
        } => format!(
            "現在は{required}名の承認が必要ですが、この申請は{required_then}名の承認が条件でした。あらためて申請してください"
        ),
        Refusal::ApprovalsDoNotCount => {
            "承認が現在の条件を満たしていません。あらためて申請してください".to_owned()
        }
        Refusal::WindowTooShortByNow {
            shortest_seconds,
            left_seconds,
        } => format!(
            "このロールの利用時間は現在{}以上必要ですが、この申請では{}しかありません。より長い時間であらためて申請してください",
            seconds(*shortest_seconds),
            seconds(*left_seconds)
        ),
        Refusal::BreakGlassWithdrawn => {
            "このロールでは、現在、申請者が緊急時に承認なしで利用を開始することは認められていません。あらためて申請し、承認を待ってください".to_owned()
        }
        Refusal::ReviewMissing { unreviewed } => format!(
            "承認なしで開始した {unreviewed} の確認がまだ終わっていません。先に確認担当者が POST /requests/{unreviewed}/review を呼び出すか、\"break_glass\" を付けずに申請して承認を待ってください"
        ),
        Refusal::RoleInUse { holder, until } => {
            let until = Moment::new(&JAPANESE, *until, zone).line();
            match holder {
                Holder::Person(name) => format!(
                    "{until} まで {name} さんがこのロールを利用しており、同時には利用できません。それ以降の開始であらためて申請するか、利用を終えるよう本人に依頼してください"
                ),
                Holder::ByHand => format!(
                    "{until} までデータベースの所有者がこのロールを手動で開いており、同時には利用できません。それ以降の開始であらためて申請するか、閉じるよう所有者に依頼してください"
                ),
                Holder::Unknown => format!(
                    "{until} まで別の人がこのロールを利用しており、同時には利用できません。それ以降の開始であらためて申請するか、利用者を基盤チームに確認してください"
                ),
            }
        }
        Refusal::NotApproved => {
            "記録された回答では、必要な人数の承認を確認できません。あらためて申請してください"
                .to_owned()
        }
        Refusal::RequesterNotConfirmed => {
            "誰がこの申請をしたのか確認できません。受付窓口（POST /requests）からあらためて申請してください".to_owned()
        }
        Refusal::RequesterNotShown { minutes } => format!(
            "誰がこの申請を開始したのか、CloudTrailで{minutes}分以内に確認できませんでした。申請者を確認できる受付窓口（POST /requests）からあらためて申請してください"
        ),
        Refusal::StartedByService { requester } => format!(
            "この申請を開始したのは {requester} ではなく、AWSのサービスです。ご自身であらためて申請してください"
        ),
        Refusal::StartedByApprover { person } => format!(
            "{person} がこの申請を開始し、自分で承認しています。あらためて申請し、別の人の承認を受けてください"
        ),
        Refusal::StartedBySomebodyElse { person, requester } => format!(
            "この申請を開始したのは {requester} ではなく、{person} です。ご自身のIDであらためて申請してください"
        ),
        Refusal::StartedByNobody { caller, requester } => format!(
            "この申請を開始した {caller} は、カタログの誰のものでもありません。カタログに登録された {requester} のプリンシパルであらためて申請してください"
        ),
        Refusal::StartedByAmbiguous {
            caller,
            people,
            requester,
        } => {
            let people: Vec<String> = people.iter().map(ToString::to_string).collect();
            format!(
                "この申請を開始した {caller} は、カタログでは複数の人（{}）のものです。{requester} だけのプリンシパルであらためて申請してください",
                people.join("、")
            )
        }
        Refusal::NotRegistered => {
            "このロールはデータベースに登録されていません。登録をデータベースの所有者に依頼してください".to_owned()
        }
        Refusal::Dropped => {
            "登録されたロールまたはユーザーは削除されています。後継の登録をデータベースの所有者に依頼してください".to_owned()
        }
        Refusal::Renamed { now } => format!(
            "登録されたロールまたはユーザーの名前が {now} に変わっています。再登録をデータベースの所有者に依頼してください"
        ),
        Refusal::RegisteredAnew => {
            "申請後、この名前で別のロールまたはユーザーが登録されました。あらためて申請してください"
                .to_owned()
        }
        Refusal::NotManageable => {
            "Latchkeyがこのロールまたはユーザーを操作する権限を失っています。再登録をデータベースの所有者に依頼してください".to_owned()
        }
        Refusal::OtherKindRegistered => {
            "データベースでは、この名前でカタログとは別の種類の権限が登録されています。基盤チームにお問い合わせください".to_owned()
        }
        Refusal::OtherMembershipRegistered {
            role,
            user,
            asked_role,
            asked_user,
        } => format!(
            "この名前の登録内容が異なります（データベース：{role} のメンバー {user}、カタログ：{asked_role} のメンバー {asked_user}）。基盤チームにお問い合わせください"
        ),
        Refusal::CouldUndoItsWindow => {
            "このロールは、自分の利用制限を自分で解除できてしまいます。SUPERUSER（PostgreSQL 16より前ではCREATEROLEも）を外すよう、データベースの所有者に依頼してください".to_owned()
        }
        Refusal::PreparedTransaction => {
            "このロールにはプリペアドトランザクションが残っており、利用の終了を妨げるおそれがあります。ロールバックをデータベースの所有者に依頼してください（pg_prepared_xacts を参照）".to_owned()
        }
        Refusal::MemberAlready { held_by } if held_by.is_empty() => {
            "このユーザーは、Latchkey以外によってすでにメンバーになっており、Latchkeyでは終了できません。データベースの所有者にお問い合わせください（latchkey.membership で確認できます）".to_owned()
        }
        Refusal::MemberAlready { held_by } => format!(
            "このユーザーは、Latchkey以外によってすでにメンバーになっており、Latchkeyでは終了できません（{}）。データベースの所有者にお問い合わせください",
            held_by.join("、")
        ),
        Refusal::UserActedAsByOthers { roles } => format!(
            "{} がこのユーザーとして操作できるため、そのセッションが利用時間の終了後も残るおそれがあります。データベースの所有者にお問い合わせください",
            roles.join("、")
        ),
        Refusal::WindowTooLongForDatabase {
            longest_seconds: Some(longest),
        } => format!(
            "データベースがこのロールに認める利用時間は最長{}です。その範囲で申請してください",
            seconds(*longest)
        ),
        Refusal::WindowTooLongForDatabase {
            longest_seconds: None,
        } => {
            "データベースがこのロールに認める利用時間を超えています。より短い時間で申請してください"
                .to_owned()
        }
        Refusal::RoleChanged { untold } => {
            let untold: String = untold
                .iter()
                .map(|finding| finding_text(&JAPANESE, finding).said)
                .collect();
            format!(
                "申請後に、承認者に知らされていない点でロールが変わりました。あらためて申請してください。{untold}"
            )
        }
        Refusal::OpenOutsideWindows => {
            "このロールは、Latchkeyが発行していないパスワードですでにログインできる状態です。新しいパスワードで上書きしないよう中止しました。データベースの所有者にお問い合わせください".to_owned()
        }
        Refusal::InstallationTooOld => {
            "データベースに導入されている関数が古く、利用時間ごとのパスワードを設定できません。install.sql の再実行をデータベースの所有者に依頼してください".to_owned()
        }
        Refusal::ReadersNotListed { readers } => format!(
            "ほかのリージョンのリーダーがカタログに記載されていません（{}）。カタログの \"readers\" への記載、またはリーダーの削除を基盤チームに依頼してください",
            readers.join("、")
        ),
        Refusal::WindowOver => {
            "利用を開始する前に利用時間が終了しました。あらためて申請してください".to_owned()
        }
        Refusal::ClosedByHand { grant } => {
            let what = match grant.membership() {
                Some(_) => "このメンバーシップが手動で取り消されました",
                None => "このロールのLOGINが手動で外されました",
            };
            format!(
                "利用時間中に、{what}。データベースの所有者にお問い合わせください。再び利用できるようにするには、所有者が latchkey.close を実行します"
            )
        }
        Refusal::AwsRoleGone => {
            "アカウントにこの名前のロールがありません。ロールまたはカタログの文書の修正を基盤チームに依頼してください".to_owned()
        }
        Refusal::AwsRoleElsewhere => {
            "この名前のロールのパスがカタログと異なります。ロールまたはカタログの文書の修正を基盤チームに依頼してください".to_owned()
        }
        Refusal::AwsSessionsTooLong => {
            "このロールのセッションは、カタログの \"max_session\" より長く続きます。ロールまたはカタログの文書の修正を基盤チームに依頼してください".to_owned()
        }
        Refusal::AwsTrustTooWide => {
            "このロールの信頼ポリシーには、Latchkeyのソースアイデンティティを必須としていないステートメントがあり、セッションを区別できません。ロールまたはカタログの文書の修正を基盤チームに依頼してください".to_owned()
        }
        Refusal::AwsRoleMadeAnew => {
            "申請後、この名前で別のロールが作成されました。あらためて申請してください".to_owned()
        }
        Refusal::PolicyTakenByHand => {
            "利用時間中に、この申請のポリシーが手動で削除されました。アカウントの管理者にお問い合わせください".to_owned()
        }
        Refusal::GranteeGone { grantee } => format!(
            "アカウントに {grantee} が存在しません。カタログにあるあなたの文書の修正を基盤チームに依頼してください"
        ),
        Refusal::GranteeNotPermitted { grantee } => format!(
            "Latchkeyには {grantee} のポリシーを変更する権限がありません。基盤チームにお問い合わせください"
        ),
        Refusal::GranteeOutOfReach {
            account,
            grantee_account,
        } => format!(
            "Latchkeyはアカウント {grantee_account} のポリシーを変更できません。アカウント {account} またはLatchkeyのアカウントのIAMユーザーかロールで申請してください"
        ),
        Refusal::PoliciesTooLong { holder } => format!(
            "{holder} のインラインポリシーがIAMの上限を超えてしまいます。不要なポリシーの削除を基盤チームに依頼するか、ほかの利用時間が終わってからあらためて申請してください"
        ),
        Refusal::SubscriptionNotTrusted { subscription } => not_trusted(subscription),
        Refusal::ApproverUnreachable {
            id,
            name,
            n_approvers,
            n_reachable,
            n_required,
        } => format!(
            "{name}（{id}）さんにメッセージが届きません。承認者{n_approvers}名のうち届くのは{n_reachable}名で、{n_required}名の承認が必要です。{name} さんの購読設定を基盤チームに依頼してください"
        ),
    }
}

fn not_trusted(subscription: &Distrusted) -> String {
    let Distrusted { arn, endpoint, why } = subscription;
    match why {
        Distrust::Unconfirmed => format!(
            "{endpoint:?} への購読が確認されていません。確認または削除を基盤チームに依頼してください"
        ),
        Distrust::NoFilter => format!(
            "{endpoint:?} への購読 {arn} にはフィルターがなく、全員宛てのメッセージが届きます。削除を基盤チームに依頼してください"
        ),
        Distrust::NotOnePerson => format!(
            "{endpoint:?} への購読 {arn} のフィルターは、1名のIDだけを指定したものではありません。削除を基盤チームに依頼してください"
        ),
        Distrust::UnknownPerson(person) => format!(
            "{endpoint:?} への購読 {arn} が指定する {person} の正しい文書がカタログにありません。削除を基盤チームに依頼してください"
        ),
        Distrust::AnotherMailbox(person) => format!(
            "{endpoint:?} への購読 {arn} は、別のメールアドレスを使う {person} 宛てのメッセージを受け取ります。削除を基盤チームに依頼してください"
        ),
        Distrust::Unauthenticated(person) => format!(
            "{endpoint:?} への購読 {arn} は署名なしで確認されたため、メールの検査プログラムでも解除できてしまいます。削除し、{person} の購読を設定し直すよう基盤チームに依頼してください"
        ),
    }
}

fn seconds(seconds: i64) -> String {
    japanese_duration(TimeDelta::seconds(seconds))
}
