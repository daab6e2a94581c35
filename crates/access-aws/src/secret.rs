//! The password of one of Latchkey's own logins: a secret, or an RDS IAM token.

use access_core::catalogue::{Credential, HostPort, Login};
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};
use aws_sdk_secretsmanager::Client;
use aws_types::SdkConfig;
use aws_types::region::Region;

use crate::Error;
use crate::error::chain;

/// A password that is never printed.
pub struct DatabasePassword(String);

impl DatabasePassword {
    /// Takes a password over.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The password itself, for the connection.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabasePassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabasePassword(_)")
    }
}

/// Reads secrets and makes tokens; keeps neither.
pub struct Secrets {
    client: Client,
}

impl Secrets {
    /// Reads with the function's own rights.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        Self {
            client: Client::new(config),
        }
    }

    /// The password with which `login` connects to `server`. A token is good for 15 minutes and for
    /// that server and user only, and if `rights` may connect as that user
    /// (<https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>).
    ///
    /// # Errors
    /// [`Error::Secret`].
    pub async fn password(
        &self,
        login: &Login,
        server: &HostPort,
        region: Option<&str>,
        rights: &SdkConfig,
    ) -> Result<DatabasePassword, Error> {
        match &login.credential {
            Credential::Secret(arn) => self.secret(arn).await,
            Credential::Iam => token(login, server, region, rights).await,
        }
    }

    async fn secret(&self, arn: &str) -> Result<DatabasePassword, Error> {
        let output = self
            .client
            .get_secret_value()
            .secret_id(arn)
            .send()
            .await
            .map_err(|error| Error::Secret(chain(error)))?;
        let text = output
            .secret_string
            .ok_or_else(|| Error::Secret(format!("secret {arn} holds no text")))?;
        // RDS's form of a secret: https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
        let document: serde_json::Value = serde_json::from_str(&text).map_err(|_| {
            Error::Secret(format!(
                "secret {arn} is not JSON; store {{\"password\": …}}"
            ))
        })?;
        let password = document
            .get("password")
            .and_then(serde_json::Value::as_str)
            .ok_or_else(|| Error::Secret(format!("secret {arn} has no \"password\"")))?;
        Ok(DatabasePassword(password.to_owned()))
    }
}

async fn token(
    login: &Login,
    server: &HostPort,
    region: Option<&str>,
    rights: &SdkConfig,
) -> Result<DatabasePassword, Error> {
    let mut config = Config::builder()
        .hostname(&server.host)
        .port(u64::from(server.port))
        .username(&login.user);
    if let Some(region) = region {
        config = config.region(Region::new(region.to_owned()));
    }
    let config = config
        .build()
        .map_err(|error| Error::Secret(error.to_string()))?;
    let token = AuthTokenGenerator::new(config)
        .auth_token(rights)
        .await
        .map_err(|error| Error::Secret(error.to_string()))?;
    Ok(DatabasePassword(token.as_str().to_owned()))
}
