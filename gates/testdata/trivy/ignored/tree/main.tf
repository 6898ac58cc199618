#trivy:ignore:AVD-AWS-0053
resource "aws_lb" "web" {
  internal = false # tfsec:ignore:AVD-AWS-0052
}
resource "aws_lb" "web2" {
  internal = false #trivy:ignore:AVD-AWS-0052:exp:2020-01-01
}
# trivy:ignore:* the whole thing
resource "aws_lb" "web3" {
  internal = false
}
