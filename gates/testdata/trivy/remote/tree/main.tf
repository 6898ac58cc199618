module "x" {
  source = "git::https://github.com/terraform-aws-modules/terraform-aws-vpc.git"
}
module "y" {
  source = "terraform-aws-modules/vpc/aws"
}
module "z" {
  source = "../missing"
}
