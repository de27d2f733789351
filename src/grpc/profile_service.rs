//! `pagebox.v1.ProfileService`.

use tonic::{Request, Response, Status};

use super::call::{answer, caller};
use super::v1::profile_service_server::ProfileService;
use super::{field, v1, view};
use crate::session::Registry;

/// The service over a registry.
#[derive(Clone, Debug)]
pub(super) struct ProfilesOfOwner {
    registry: Registry,
}

impl ProfilesOfOwner {
    pub(super) fn new(registry: Registry) -> Self {
        Self { registry }
    }
}

#[tonic::async_trait]
impl ProfileService for ProfilesOfOwner {
    async fn list_profiles(
        &self,
        request: Request<v1::ListProfilesRequest>,
    ) -> Result<Response<v1::ListProfilesResponse>, Status> {
        let (metadata, extensions, _) = request.into_parts();
        answer("ListProfiles", &metadata, async {
            let views = self.registry.profiles(&caller(&extensions)?.owner).await?;
            Ok(v1::ListProfilesResponse {
                profiles: views.into_iter().map(view::profile).collect(),
            })
        })
        .await
    }

    async fn get_profile(
        &self,
        request: Request<v1::GetProfileRequest>,
    ) -> Result<Response<v1::GetProfileResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("GetProfile", &metadata, async {
            let name = field::profile_name("name", request.name)?;
            let owner = caller(&extensions)?.owner;
            let view = self.registry.profile(&owner, &name).await?;
            Ok(v1::GetProfileResponse {
                profile: Some(view::profile(view)),
            })
        })
        .await
    }

    async fn delete_profile(
        &self,
        request: Request<v1::DeleteProfileRequest>,
    ) -> Result<Response<v1::DeleteProfileResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("DeleteProfile", &metadata, async {
            let name = field::profile_name("name", request.name)?;
            let owner = caller(&extensions)?.owner;
            let deleted = self.registry.delete_profile(&owner, &name).await?;
            Ok(v1::DeleteProfileResponse { deleted })
        })
        .await
    }

    async fn export_profile(
        &self,
        request: Request<v1::ExportProfileRequest>,
    ) -> Result<Response<v1::ExportProfileResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("ExportProfile", &metadata, async {
            let name = field::profile_name("name", request.name)?;
            let caller = caller(&extensions)?;
            let storage_state = self.registry.export_profile(&caller, &name).await?;
            Ok(v1::ExportProfileResponse { storage_state })
        })
        .await
    }

    async fn import_profile(
        &self,
        request: Request<v1::ImportProfileRequest>,
    ) -> Result<Response<v1::ImportProfileResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        answer("ImportProfile", &metadata, async {
            let name = field::profile_name("name", request.name)?;
            let caller = caller(&extensions)?;
            let state = &request.storage_state;
            let view = self.registry.import_profile(&caller, &name, state).await?;
            Ok(v1::ImportProfileResponse {
                profile: Some(view::profile(view)),
            })
        })
        .await
    }
}
