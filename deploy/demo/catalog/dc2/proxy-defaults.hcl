# The mode of every upstream that no higher level decides.
Kind = "proxy-defaults"
Name = "global"

MeshGateway {
  Mode = "local"
}
