package testkit

// awsServices returns what StartAWS serves.
func (a *AWS) awsServices() []*awsService {
	return []*awsService{
		a.stsService(),
		a.s3Service(),
		a.dynamoService(),
		a.sqsService(),
	}
}
